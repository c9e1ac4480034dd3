"""What the parts of a program are: its submodules under their names, which chain to the program."""

import pytest
import torch
from torch import nn

from fxtransport import Program, transportify
from fxtransport.errors import UsageError
from tests.program.nets import EXAMPLE, Block, Net


def test_parts_chain_to_the_program(net: Net, images: torch.Tensor) -> None:
    """Each part gives hidden, logits, energies; the last logits are the model's output."""
    program = transportify(net, EXAMPLE, modules=3).eval()
    hidden: object = images
    energies = []
    for part in program.parts:
        out = part(hidden)
        assert out.logits.shape == (5, 5)
        energies.append(out.costs)
        hidden = out.hidden
    assert torch.equal(hidden, program(images))
    assert torch.equal(out.logits, program(images))
    assert torch.equal(torch.cat(energies), program.transport(images).energies)


def test_no_part_overwrites_what_it_is_given(net: Net, images: torch.Tensor) -> None:
    """Hidden states can be leaves of autograd."""
    program = transportify(net, EXAMPLE, modules=4)
    hidden: torch.Tensor = images
    for part in program.parts:
        given = hidden.detach().clone().requires_grad_()
        kept = given.detach().clone()
        out = part(given)
        out.logits.sum().backward()
        assert torch.equal(given, kept)
        assert given.grad is not None
        hidden = out.hidden


def test_parts_own_their_parameters(net: Net) -> None:
    """Disjoint, complete, under the user's names, and the program's own objects."""
    program = transportify(net, EXAMPLE, modules=3)
    own = {n for n, _ in net.named_parameters()}
    inner = [{n for n, _ in p.named_parameters() if n in own} for p in program.parts]
    assert set().union(*inner) == own
    assert sum(map(len, inner)) == len(own)
    assert "stem.weight" in inner[0]
    assert "scale" in inner[0]
    for part in program.parts:
        for name, parameter in part.named_parameters():
            is_head = name.startswith("auxiliary_head.")
            assert is_head or parameter is net.get_parameter(name)


class HeadInFront(nn.Module):
    """Calls an inner stage what parts call their auxiliary head."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(Block(4), Block(4))
        self.index = nn.Sequential(Block(4), Block(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.index(self.head(x)).mean((2, 3))


@pytest.mark.parametrize("modules", [2, 3, 4])
def test_submodules_may_have_any_name(modules: int) -> None:
    """``head`` and ``index`` are the user's, and parts still have their own."""
    net = HeadInFront()
    images = torch.randn(2, 4, 8, 8)
    program = transportify(net, images, modules=modules).eval()
    hidden: torch.Tensor = images
    for part in program.parts:
        out = part(hidden)
        hidden = out.hidden
    assert torch.equal(hidden, net(images))
    own = {id(p) for p in net.parameters()}
    assert own <= {id(p) for part in program.parts for p in part.parameters()}
    assert program.parts[0].auxiliary_head is not None
    assert all(id(p) not in own for p in program.parts[0].auxiliary_head.parameters())


def test_functions_of_parameters() -> None:
    """``functional_call`` reaches a submodule that is called ``head``."""
    net = nn.Sequential()
    net.head = nn.Sequential(Block(4), Block(4))
    images = torch.randn(2, 4, 8, 8)
    whole = transportify(net, images).eval().whole
    doubled = {name: 2 * parameter for name, parameter in whole.named_parameters()}
    called = torch.func.functional_call(whole, doubled, images, {"measure": None})
    assert torch.equal(called.hidden, torch.func.functional_call(net, doubled, images))


def test_state_dict_is_the_models(net: Net, images: torch.Tensor) -> None:
    """Exactly the model's keys, and heads under one prefix; it loads both ways."""
    program = transportify(net, EXAMPLE, modules=2)
    state = program.state_dict()
    extra = state.keys() - net.state_dict().keys()
    assert net.state_dict().keys() <= state.keys()
    assert extra
    assert all(key.startswith("auxiliary_heads.0.") for key in extra)
    other = Net()
    other.load_state_dict(program.model_state_dict())
    assert torch.equal(other.eval()(images), program.eval()(images))
    fresh = transportify(Net(), EXAMPLE, modules=2)
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh.eval()(images), net.eval()(images))
    with pytest.raises(RuntimeError, match="stem"):
        fresh.load_state_dict({k: v for k, v in state.items() if not k.startswith("stem")})
    with pytest.raises(RuntimeError, match="auxiliary_heads"):
        fresh.load_state_dict({k: v for k, v in state.items() if "heads.0.linear" not in k})


def test_dtype_moves_parts_too(net: Net, images: torch.Tensor) -> None:
    """``.to`` reaches root parameters and buffers, and the parts see them."""
    program = transportify(net, EXAMPLE, modules=2).eval().to(torch.float64)
    double = images.double()
    out = program.parts[1](program.parts[0](double).hidden)
    assert out.hidden.dtype == torch.float64
    assert torch.equal(out.hidden, program(double))
    assert all(b.dtype != torch.float32 for part in program.parts for b in part.buffers())
    half = program.to(torch.bfloat16)
    assert half(images.bfloat16()).dtype == torch.bfloat16
    assert half.transport(images.bfloat16()).energies.dtype == torch.float32


def test_modes_and_gradients_of_submodules(net: Net, images: torch.Tensor) -> None:
    """``eval`` and ``requires_grad_`` on a submodule or a part act as on the model."""
    program = transportify(net, EXAMPLE, modules=2).train()
    program.parts[0].eval().requires_grad_(False)
    assert not net.blocks[0].norm.training
    assert net.blocks[3].norm.training
    assert not net.stem.weight.requires_grad
    before = net.blocks[0].norm.running_mean.clone()
    program(images).sum().backward()
    assert torch.equal(net.blocks[0].norm.running_mean, before)
    assert net.stem.weight.grad is None
    assert net.head.weight.grad is not None
    program.eval()
    program.get_submodule("blocks").train()
    assert not torch.equal(program(images), program.eval()(images))


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


def test_heads_none_and_hand_cuts(net: Net, images: torch.Tensor) -> None:
    """Cuts by path; without heads there are no logits and no further keys."""
    program = transportify(net, EXAMPLE, cuts=["blocks.0", "blocks.2"], head="none").eval()
    assert isinstance(program, Program)
    assert [cut.path for cut in program.facts.partition.cuts] == ["blocks.0", "blocks.2"]
    assert program.parts[0](images).logits is None
    assert program.state_dict().keys() == net.state_dict().keys()
