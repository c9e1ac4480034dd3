"""What other tools get wrong on models of the zoo, and this compiler must not."""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, fx, nn

from fxtransport.errors import GuardError, TraceError
from fxtransport.ir import Origins, VerificationReport
from fxtransport.passes.pipeline import run_passes
from fxtransport.passes.trace import Trace
from fxtransport.passes.verify import Verify
from tests.compiling import assert_identical, compiled, forward, transport, unit_of

LAYER = "encoder.layers.encoder_layer_0"


def test_a_norm_is_not_taken_for_the_next_one() -> None:
    """torchvision's extractor strips suffixes of names and returns ln_2 for ln_1."""
    model = torchvision.models.vit_b_32(weights=None).eval()
    unit = run_passes(unit_of(model, 3, 224, 224), [Trace(open=(LAYER,))])
    graph = unit.traced()
    norms = {name: f"{LAYER}.{name}" for name in ("ln_1", "ln_2")}
    nodes = {n.name: n for n in graph.nodes if n.target in norms.values()}
    assert {str(n.target) for n in nodes.values()} == set(norms.values())
    assert all(name == str(n.target).replace(".", "_") for name, n in nodes.items())
    assert unit.fact(Origins).opened >= {LAYER}

    expected: dict[str, Tensor] = {}
    for name, path in norms.items():

        def keep(module: nn.Module, inputs: object, output: Tensor, name: str = name) -> None:
            expected[name] = output.clone()

        model.get_submodule(path).register_forward_hook(keep)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        model(x)
        values = Values(model, graph)
        values.run(x)
    for name, path in norms.items():
        assert_identical(values.of[path.replace(".", "_")], expected[name])
    assert not torch.equal(expected["ln_1"], expected["ln_2"])


class Values(fx.Interpreter):
    """Runs a graph and keeps the tensor that each module returns."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, graph=graph)
        self.of: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if n.op == "call_module" and isinstance(value, Tensor):
            self.of[n.name] = value.clone()
        return value


def test_a_program_traced_in_training_is_deterministic_in_eval() -> None:
    """A trace in train mode with plain fx keeps drop-path alive in eval mode."""
    model = timm.create_model("swin_tiny_patch4_window7_224", drop_path_rate=0.5, num_classes=4)
    model.train()
    program = forward(compiled(model, 3, 224, 224))
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert not torch.equal(program(model, x), program(model, x))
        model.eval()
        assert_identical(program(model, x), program(model, x))
        assert_identical(program(model, x), model(x))


class Appends(nn.Sequential):
    """Appends to the list that it is given, as the layers of VoVNet do."""

    def forward(self, x: Tensor, made: list[Tensor]) -> Tensor:  # type: ignore[override]
        for module in self:
            made.append(module(made[-1]))
        return torch.cat(made, dim=1)


class Collects(nn.Module):
    """Reads, after the call, the list that another module was given."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 4), nn.Linear(12, 4)
        self.layers = Appends(nn.Linear(4, 4), nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        made = [x]
        y = self.head(self.layers(x, made))
        return x + y * made[-1].sigmoid()


def test_lists_that_a_module_appends_to_reach_its_caller() -> None:
    model = Collects()
    program = forward(compiled(model, 3))
    x = torch.randn(5, 3)
    assert_identical(program(model, x), model(x))


def test_vovnet_compiles() -> None:
    unit = compiled(timm.create_model("ese_vovnet39b"), 3, 64, 64)
    model = unit.model.eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert_identical(forward(unit)(model, x), model(x))


class MayMask(nn.Module):
    """Returns no mask for inputs of one size, as the patch embedding of Gemma does."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return x * 2, None if x.shape[1] == 3 else x > 0


class Masks(nn.Module):
    """Looks at a mask only where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = MayMask()

    def forward(self, x: Tensor) -> Tensor:
        y, mask = self.embed(x)
        if mask is not None and mask.any():
            y = y.masked_fill(mask, 0.0)
        return x + y


def test_what_a_closed_module_leaves_out_is_none() -> None:
    model = Masks()
    program = forward(compiled(model, 3))
    x = torch.randn(5, 3)
    assert_identical(program(model, x), model(x))
    with pytest.raises(GuardError, match=r"a value in the model \(Masks\) at .* is None"):
        program(model, torch.randn(5, 4))


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "fasterrcnn_resnet50_fpn"])
def test_detection_says_that_it_depends_on_data(name: str) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    with pytest.raises(TraceError, match="has data-dependent control flow at"):
        compiled(model, 3, 320, 320)


class FourBranches(nn.Module):
    """Adds one branch after the other, as the blocks of GhostNet v3 do."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for branch in self.branches:
            y = y + branch(x)
        return y


def test_the_residue_of_many_branches_is_their_sum() -> None:
    model = FourBranches()
    x = torch.randn(5, 4)
    output, [residue] = transport(compiled(model, 4))(model, x)
    assert_identical(output, model(x))
    a, b, c, d = (branch(x) for branch in model.branches)
    assert_identical(residue, a + b + c + d)


def test_checkpoints_and_batch_norm_go_together() -> None:
    """A checkpoint updates running averages twice in a step, of a program too."""
    model = timm.create_model("resnet18", num_classes=4)
    model.set_grad_checkpointing(True)
    unit = run_passes(compiled(model, 3, 32, 32), [Verify()])
    assert unit.fact(VerificationReport).max_error == 0.0
