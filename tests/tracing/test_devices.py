"""What code is told of devices while it runs on the meta device: the model's."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fxtransport.tracing.constants import Constants
from fxtransport.tracing.devices import META, DefaultDevice, PretendDevice
from tests.tracing.blocks import Function, assert_equal, check, net, program_of, x

CPU = torch.device("cpu")
MADE: dict[str, Any] = {
    "factory": lambda: torch.zeros(3),
    "tensor": lambda: torch.tensor([1.0, 2.0]),
    "by name": lambda: torch.ones(3, device="cpu"),
    "tensor by name": lambda: torch.tensor(1.0, device="cpu"),
    "by device": lambda: torch.rand(3, device=torch.device("cuda", 0)),
    "moved": lambda: torch.zeros(3).to("cpu"),
    "moved with a dtype": lambda: torch.zeros(3).to("cpu", torch.float64),
    "moved by keyword": lambda: torch.zeros(3).to(device="cpu", dtype=torch.float64),
    "cpu": lambda: torch.zeros(3).cpu(),
    "cuda": lambda: torch.zeros(3).cuda(),
    "like": lambda: torch.zeros_like(torch.zeros(3), device="cpu"),
    "new": lambda: torch.zeros(3).new_zeros(2, device="cpu"),
    "cast": lambda: torch.zeros(3).to(torch.float16),
}


@pytest.mark.parametrize("name", MADE)
def test_tensors_are_made_on_meta_and_say_otherwise(name: str) -> None:
    with PretendDevice(CPU, Constants()):
        made = MADE[name]()
        assert made.device == CPU
        assert made.is_cpu
        assert not made.is_meta
        assert not made.is_cuda
        assert made.type().startswith("torch.") and "cuda" not in made.type()
    assert made.device == META
    assert made.is_meta


@pytest.mark.parametrize("told", ["cpu", "cuda:1"])
def test_code_is_told_the_device_of_the_model(told: str) -> None:
    with PretendDevice(torch.device(told), Constants()):
        assert torch.zeros(1).device == torch.device(told)
        assert torch.zeros(1).is_cuda == told.startswith("cuda")


def test_a_move_returns_the_tensor_itself() -> None:
    """As on the device where the model is."""
    with PretendDevice(CPU, Constants()):
        made = torch.zeros(3)
        assert made.to("cpu") is made
        assert made.cpu() is made
        assert made.to(CPU) is made
        assert made.to("cpu", torch.float64) is not made


def test_numbers_in_tensors_are_known() -> None:
    constants = Constants()
    with PretendDevice(CPU, constants):
        made = torch.tensor([1.0, 2.0])
        unknown = torch.rand(2)
    real = constants.real(made)
    assert real is not None
    assert real.tolist() == [1.0, 2.0]
    assert constants.real(unknown) is None


def test_where_tensors_are_made_may_vary() -> None:
    with DefaultDevice("meta"):
        assert torch.zeros(3).device == META
        assert torch.zeros(3, device="cpu").device == CPU
    assert torch.zeros(3).device == CPU


IN_MODELS: dict[str, Function] = {
    "with": lambda m, x, y: y + _made(x.device),
    "with a parameter's": lambda m, x, y: y + _made(m.linear.weight.device),
    "with a name": lambda m, x, y: y + _made("cpu"),
    "of an input": lambda m, x, y: y + torch.ones(8, device=x.device),
    "to": lambda m, x, y: y.to(x.device) + torch.ones(8).to(x.device),
    "to the device of a parameter": lambda m, x, y: y.to(next(m.parameters()).device) * 2,
    "to another tensor's": lambda m, x, y: torch.ones(8, dtype=torch.float64).to(y) + y,
    "cpu": lambda m, x, y: y.cpu() * 2,
    "equal": lambda m, x, y: y.exp() if x.device == y.device == torch.device("cpu") else y,
    "type": lambda m, x, y: y.exp() if "cuda" in x.type() else y.tanh(),
    "autocast": lambda m, x, y: _autocast(x.device.type, m, x).float() + y,
    "index": lambda m, x, y: y.exp() if not x.device.index else y,
}


def _made(device: Any) -> Tensor:
    with torch.device(device):
        return torch.arange(8.0) + torch.tensor(1.0)


def _autocast(kind: str, m: Any, x: Tensor) -> Any:
    with torch.autocast(kind, dtype=torch.bfloat16):
        return m.linear(x)


@pytest.mark.parametrize("name", IN_MODELS)
def test_code_that_asks_for_devices(name: str) -> None:
    check(IN_MODELS[name])


def test_a_device_is_not_frozen() -> None:
    """The program of a model on the CPU runs on another device."""
    model = net(lambda m, x, y: y + torch.ones(8, device=x.device))
    program = program_of(model)
    assert_equal(program, model, x(5))
    assert program.to("meta")(x(5).to("meta")).device == META
