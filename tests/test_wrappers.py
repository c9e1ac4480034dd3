"""Wrappers are taken off, and what cannot be compiled is refused by its name."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.wrappers import unwrap
from tests.networks import VectorNet


def compiled(model: nn.Module) -> nn.Module:
    """What torch.compile returns."""
    found = torch.compile(model, backend="eager")
    assert isinstance(found, nn.Module)
    return found


@pytest.mark.parametrize(
    "wrap", [compiled, nn.DataParallel, lambda m: nn.DataParallel(compiled(m))]
)
def test_the_model_inside_is_compiled(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = VectorNet()
    program = transportify(wrap(model), torch.zeros(2, 6), modules=2)
    x = torch.randn(3, 6)
    assert torch.equal(program(x), model(x))
    assert program.model_state_dict().keys() == model.state_dict().keys()
    assert unwrap(wrap(model)) is model


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore::DeprecationWarning")
def test_scripts_are_refused() -> None:
    script = torch.jit.script(VectorNet())
    with pytest.raises(UsageError, match=r"ScriptModule.*give the nn.Module that it was made from"):
        transportify(script, torch.zeros(2, 6))


def test_lazy_modules_are_initialized_first() -> None:
    model = nn.Sequential(VectorNet(), nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(UsageError, match=r"1.0 \(LazyLinear\).*run the model once"):
        transportify(model, torch.zeros(2, 6))
    x = torch.randn(2, 6)
    expected = model.eval()(x)
    assert torch.equal(transportify(model, torch.zeros(2, 6))(x), expected)


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_compiled_modules_inside_a_model() -> None:
    model = VectorNet()
    model[0] = compiled(model[0])
    model[1].compile(backend="eager")
    program = transportify(model, torch.zeros(2, 6), modules=2)
    x = torch.randn(3, 6)
    assert torch.equal(program(x), model(x))
    assert program.model_state_dict().keys() == model.state_dict().keys()
    assert len(program.transport(x).residues) == 3
