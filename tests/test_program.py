"""What a program promises: the model's behavior, its residues and energies, also compiled."""

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import timm
import torch
from torch import nn

from fxtransport import Program, transportify
from fxtransport.errors import PartitionError, TraceError, UsageError
from fxtransport.tracing.recorder import tensors_in
from tests.networks import IMAGES, OverwritingBlock, OverwritingNet


@pytest.mark.parametrize("training", [True, False])
def test_forward_is_the_models(net: OverwritingNet, images: torch.Tensor, training: bool) -> None:
    """Bit for bit, with one seed, in both modes."""
    program = transportify(copy.deepcopy(net), IMAGES, modules=2)
    program.train(training)
    net.train(training)
    torch.manual_seed(3)
    expected = net(images)
    torch.manual_seed(3)
    assert torch.equal(program(images), expected)
    for name, buffer in net.named_buffers():
        assert torch.equal(program.get_buffer(name), buffer), name


def test_transport_returns_residues_and_energies(net: OverwritingNet, images: torch.Tensor) -> None:
    """Residues are those computed by hand, although the model overwrites them."""
    program = transportify(net, IMAGES).eval()
    out = program.transport(images)
    expected = net.eval().residues(images)
    assert torch.equal(out.output, net(images))
    assert isinstance(out.residues, tuple)
    assert all(torch.equal(r, e) for r, e in zip(out.residues, expected, strict=True))
    assert torch.equal(out.energies, torch.stack([e.square().mean() for e in expected]))


def test_energies_carry_gradients(net: OverwritingNet, images: torch.Tensor) -> None:
    """The kinetic energy can be a loss."""
    program = transportify(net, IMAGES).eval()
    found = torch.autograd.grad(program.transport(images).energies.sum(), net.stem.weight)
    energy = sum(e.square().mean() for e in net.residues(images))
    assert torch.equal(found[0], torch.autograd.grad(energy, net.stem.weight)[0])


def test_model_is_untouched(images: torch.Tensor) -> None:
    """Compiling changes no flag, tensor, class or hook."""
    net = OverwritingNet().eval()
    net.blocks[1].train()
    before = copy.deepcopy(net.state_dict())
    flags = [(n, m.training, type(m)) for n, m in net.named_modules()]
    attributes = {n: set(vars(m)) for n, m in net.named_modules()}
    transportify(net, IMAGES, modules=2)
    assert flags == [(n, m.training, type(m)) for n, m in net.named_modules()]
    assert attributes == {n: set(vars(m)) for n, m in net.named_modules()}
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_deepcopy_is_independent(net: OverwritingNet, images: torch.Tensor) -> None:
    """A copy has its own parameters, also in its parts."""
    program = transportify(net, IMAGES, modules=2).eval()
    twin = copy.deepcopy(program)
    expected = program(images)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(program(images), expected)
    assert not torch.equal(twin(images), expected)
    assert torch.equal(twin.parts[1](twin.parts[0](images).hidden).hidden, twin(images))
    mine = {id(p) for p in twin.parameters()}
    assert {id(p) for part in twin.parts for p in part.parameters()} == mine


def test_dropout_in_the_forward_follows_its_owner(
    net: OverwritingNet, images: torch.Tensor
) -> None:
    """A functional dropout of the root reads the program's own flag."""
    program = transportify(net, IMAGES)
    program.eval()
    assert torch.equal(program(images), program(images))
    program.training = True
    assert not torch.equal(program(images), program(images))


@pytest.mark.parametrize("modules", [1, 2, 4])
def test_compiles_without_graph_break(
    net: OverwritingNet, images: torch.Tensor, modules: int
) -> None:
    """Program, transport and parts, whole."""
    program = transportify(net, IMAGES, modules=modules).eval()
    torch.compiler.reset()
    compiled = torch.compile(program, fullgraph=True, backend="eager")
    assert torch.equal(compiled(images), program(images))
    transport = torch.compile(program.transport, fullgraph=True, backend="eager")
    assert torch.equal(transport(images).energies, program.transport(images).energies)
    hidden = images
    for part in program.parts:
        # dynamo looks at .grad of what it is given, which warns unless it is a leaf
        hidden = torch.compile(part, fullgraph=True, backend="eager")(hidden.detach()).hidden
    assert torch.equal(hidden, program(images))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_real_models_compile_without_graph_break(name: str) -> None:
    """One graph in eval and train, forward and backward, with the default compiler's front."""
    model = timm.create_model(name, num_classes=10)
    program = transportify(model, modules=2, verify=False).eval()
    images = torch.randn(2, 3, 224, 224)
    torch.compiler.reset()
    compiled = torch.compile(program, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images), rtol=1e-4, atol=1e-5)
    transport = torch.compile(program.transport, fullgraph=True, backend="aot_eager")
    assert transport(images).energies.shape == (len(program.facts.residuals),)
    program.train()
    compiled(images).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.cuda
@pytest.mark.parametrize(
    "name", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_on_cuda(name: str) -> None:
    """Verified on the device, and compiled whole."""
    model = timm.create_model(name, num_classes=10).cuda()
    program = transportify(model, modules=4, balance="activations").eval()
    images = torch.randn(4, 3, 224, 224, device="cuda")
    compiled = torch.compile(program, fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images), rtol=1e-2, atol=1e-2)


def test_bad_options_say_what_is_wrong(net: OverwritingNet) -> None:
    """One line each."""
    with pytest.raises(
        UsageError,
        match="balance is one of depth, activations, parameters, flops, memory, not 'width'",
    ):
        transportify(net, IMAGES, balance="width")
    with pytest.raises(PartitionError, match="at least 1"):
        transportify(net, IMAGES, modules=0)
    with pytest.raises(PartitionError, match=r"make at most \d+ parts"):
        transportify(net, IMAGES, modules=50)
    with pytest.raises(UsageError, match="give example_inputs"):
        transportify(net)
    with pytest.raises(UsageError, match=r"not 'resnet18'; .* fxtransport\.compile_named"):
        transportify("resnet18")
    with pytest.raises(TraceError, match="stem"):
        transportify(net, torch.zeros(2, 7, 8, 8))


@dataclass
class Prediction:
    """What some models return."""

    logits: torch.Tensor
    features: list[torch.Tensor]


class Predictor(nn.Module):
    """Returns a container of the given kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.block = OverwritingBlock(4)

    def forward(self, x: torch.Tensor) -> object:
        x = self.block(x)
        logits = x.mean((2, 3))
        match self.kind:
            case "dataclass":
                return Prediction(logits, [x, logits])
            case "ordered":
                return OrderedDict(out=logits, aux=x)
            case "named":
                return Named(logits, x)
        return {"out": logits, "all": (x, logits)}


class Named(NamedTuple):
    """A tuple with names."""

    logits: torch.Tensor
    features: torch.Tensor


@pytest.mark.parametrize("kind", ["dataclass", "ordered", "named", "dict"])
def test_outputs_keep_their_type(kind: str) -> None:
    """Dataclasses, ordered dicts, named tuples, dicts: as the model returns them."""
    model = Predictor(kind).eval()
    images = torch.randn(2, 4, 8, 8)
    program = transportify(model, images, head="none")
    expected, found = model(images), program(images)
    assert type(found) is type(expected)
    pairs = zip(tensors_in(expected), tensors_in(found), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert len(tensors_in(found)) >= 2


def test_kinds_that_are_tapped_are_an_option() -> None:
    """Projections can be left out, as BLOCK's text does."""
    model = timm.create_model("resnet18", num_classes=3)
    assert len(transportify(model, verify=False).transport(torch.zeros(1, 3, 64, 64)).residues) == 8
    program = transportify(model, kinds=["identity"], verify=False)
    assert len(program.transport(torch.zeros(1, 3, 64, 64)).residues) == 5
    with pytest.raises(UsageError, match="inner"):
        transportify(model, kinds=["inner"], verify=False)


def test_parts_chain_to_the_program(net: OverwritingNet, images: torch.Tensor) -> None:
    """Each part gives hidden, logits, costs; the last logits are the model's output."""
    program = transportify(net, IMAGES, modules=3).eval()
    hidden: object = images
    costs = []
    for part in program.parts:
        out = part(hidden)
        assert out.logits.shape == (5, 5)
        costs.append(out.costs)
        hidden = out.hidden
    assert torch.equal(hidden, program(images))
    assert torch.equal(out.logits, program(images))
    assert torch.equal(torch.cat(costs), program.transport(images).energies)


def test_parts_own_their_parameters(net: OverwritingNet) -> None:
    """Disjoint, complete, under the user's names, and the program's own objects."""
    program = transportify(net, IMAGES, modules=3)
    own = {n for n, _ in net.named_parameters()}
    inner = [{n for n, _ in p.named_parameters() if n in own} for p in program.parts]
    assert set().union(*inner) == own
    assert sum(map(len, inner)) == len(own)
    assert "stem.weight" in inner[0]
    assert "scale" in inner[0]
    for part in program.parts:
        for name, parameter in part.named_parameters():
            if not name.startswith("auxiliary_head."):
                assert parameter is net.get_parameter(name)


def test_state_dict_is_the_models(net: OverwritingNet, images: torch.Tensor) -> None:
    """Exactly the model's keys, and heads under one prefix; it loads both ways."""
    program = transportify(net, IMAGES, modules=2)
    state = program.state_dict()
    extra = state.keys() - net.state_dict().keys()
    assert net.state_dict().keys() <= state.keys()
    assert extra
    assert all(key.startswith("auxiliary_heads.0.") for key in extra)
    other = OverwritingNet()
    other.load_state_dict(program.model_state_dict())
    assert torch.equal(other.eval()(images), program.eval()(images))
    fresh = transportify(OverwritingNet(), IMAGES, modules=2)
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh.eval()(images), net.eval()(images))
    with pytest.raises(RuntimeError, match="stem"):
        fresh.load_state_dict({k: v for k, v in state.items() if not k.startswith("stem")})
    with pytest.raises(RuntimeError, match="auxiliary_heads"):
        fresh.load_state_dict({k: v for k, v in state.items() if "heads.0.linear" not in k})


def test_clashing_names_are_refused() -> None:
    """A submodule may not be called like a method of programs."""

    class Clash(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.parts(x)

    with pytest.raises(UsageError, match="'parts'"):
        transportify(Clash(), torch.zeros(2, 3))


def test_heads_none_and_hand_cuts(net: OverwritingNet, images: torch.Tensor) -> None:
    """Cuts by path; without heads there are no logits and no further keys."""
    program = transportify(net, IMAGES, cuts=["blocks.0", "blocks.2"], head="none").eval()
    assert isinstance(program, Program)
    assert [cut.path for cut in program.facts.partition.cuts] == ["blocks.0", "blocks.2"]
    assert program.parts[0](images).logits is None
    assert program.state_dict().keys() == net.state_dict().keys()


def test_dtype_moves_parts_too(net: OverwritingNet, images: torch.Tensor) -> None:
    """``.to`` reaches root parameters and buffers, and the parts see them."""
    program = transportify(net, IMAGES, modules=2).eval().to(torch.float64)
    double = images.double()
    out = program.parts[1](program.parts[0](double).hidden)
    assert out.hidden.dtype == torch.float64
    assert torch.equal(out.hidden, program(double))
    assert all(b.dtype != torch.float32 for part in program.parts for b in part.buffers())
    half = program.to(torch.bfloat16)
    assert half(images.bfloat16()).dtype == torch.bfloat16
    assert half.transport(images.bfloat16()).energies.dtype == torch.float32
