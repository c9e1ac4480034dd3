"""Devices and dtypes that code asks for, and tensors that calls return as they are."""

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tracing.blocks import Adds, Function, assert_equal, check, net, program_of, x


def parameter(m: Any) -> Any:
    return next(m.parameters())


DEVICES: dict[str, Function] = {
    "device": lambda m, x, y: y.to(parameter(m).device).tanh(),
    "device and dtype": lambda m, x, y: y.to(device=parameter(m).device, dtype=parameter(m).dtype),
    "own weight": lambda m, x, y: y * x.to(m.linear.weight.device).mean(),
    "by tensor": lambda m, x, y: y * x.to(m.linear.weight).mean(),
    "factory": lambda m, x, y: y * torch.ones(8, device=parameter(m).device),
    "arange": lambda m, x, y: y * torch.arange(8, device=m.linear.weight.device),
    "rand": lambda m, x, y: y * torch.rand(8, device=parameter(m).device, dtype=x.dtype),
    "string": lambda m, x, y: y * torch.ones(8, device=str(parameter(m).device)),
    "name": lambda m, x, y: y * torch.ones(8, device="cpu"),
    "tensor": lambda m, x, y: y * torch.tensor([0.5], device=x.device),
    "of x": lambda m, x, y: y + torch.zeros(len(x), 8, device=x.device, dtype=x.dtype) * y,
    "copy": lambda m, x, y: y.to(y.device, copy=True) * y.to(y.device, non_blocking=True),
    "compared": lambda m, x, y: y * 2 if x.device == y.device else y,
    "of a buffer made": lambda m, x, y: y * torch.ones(8).to(parameter(m).device),
    "float()": lambda m, x, y: y.double().float().type(torch.float32).to(torch.float32),
}


def _with_device(m: Any, y: Tensor) -> Tensor:
    with torch.device(parameter(m).device):
        return y * torch.ones(8)


MOVES: dict[str, Function] = {
    "name": lambda m, x, y: y.to("cpu").tanh(),
    "torch.device": lambda m, x, y: y.to(torch.device("cpu")).tanh(),
    "cpu()": lambda m, x, y: y.cpu().tanh(),
    "device and dtype": lambda m, x, y: y.to("cpu", torch.float32).tanh(),
    "with": lambda m, x, y: _with_device(m, y),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_to_a_device(name: str) -> None:
    check(MOVES[name])


@pytest.mark.parametrize("name", DEVICES)
def test_devices_are_those_of_the_model(name: str) -> None:
    check(DEVICES[name])


@pytest.mark.parametrize("name", ["device", "device and dtype", "factory", "of x", "by tensor"])
def test_a_program_may_move(name: str) -> None:
    """Nothing of where the model was compiled is in the graph."""
    program = program_of(net(DEVICES[name])).to("meta")
    assert program(x(5).to("meta")).device.type == "meta"


def test_a_program_may_change_its_dtype() -> None:
    model = net(DEVICES["device and dtype"])
    program = program_of(model).double()
    assert_equal(program, model.double(), x(5).double())


SAME: dict[str, Function] = {
    "to": lambda m, x, y: y.to(y.dtype) * y.contiguous() * y.float(),
    "view": lambda m, x, y: _changed(y.view(-1, 8), y),
    "expand": lambda m, x, y: _changed(y.expand(-1, 8).clone(), y),
    "detach": lambda m, x, y: y + y.detach(),
    "requires_grad": lambda m, x, y: y * torch.ones(8).requires_grad_(),
    "in place": lambda m, x, y: y.clone().mul_(y).add_(1),
    "swap": lambda m, x, y: (lambda a, b: b - a)(*(y, x)),
}


def _changed(z: Tensor, y: Tensor) -> Tensor:
    """Written in place: where a call returns what it is given, that is written, too."""
    z = z.mul_(2)
    return z + y


WRITTEN: dict[str, Function] = {
    "to": lambda m, x, y: _changed(y.to(y.dtype), y),
    "contiguous": lambda m, x, y: _changed(y.contiguous(), y),
    "float": lambda m, x, y: _changed(y.float(), y),
    "identity": lambda m, x, y: _changed(torch.nn.functional.dropout(y, 0.5, False), y),
    "module": lambda m, x, y: _changed(m.same(y), y),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_calls_return_is_written(name: str) -> None:
    check(WRITTEN[name], same=torch.nn.Identity())


@pytest.mark.parametrize("name", SAME)
def test_calls_that_may_return_what_they_are_given(name: str) -> None:
    check(SAME[name])


def test_copies_of_tensors() -> None:
    check(lambda m, x, y: y * copy.deepcopy(x.detach()).mean())


def test_a_closed_module_that_returns_its_input() -> None:
    check(lambda m, x, y: m.same(y) + y, same=torch.nn.Identity())
    check(lambda m, x, y: m.drop(y).relu() + y, drop=torch.nn.Dropout(0.0))


class WritesInFloat(nn.Module):
    """Overwrites what it is given where that is of single precision, and else a copy."""

    def __init__(self, wrap: Any = None) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        y = x.float().mul_(0.5)
        return y if self.wrap is None else self.wrap(y)


def _halved(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.float().mul_(0.5)


def _hooked() -> nn.Module:
    layer = nn.Identity()
    layer.register_forward_hook(_halved)
    return layer


def _in_float(x: Tensor) -> Tensor:
    return x.float().mul_(0.5)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch says that scripts are deprecated
    _scripted = torch.jit.script(_in_float)


def _under_autocast(m: Any, x: Tensor, y: Tensor) -> Tensor:
    y = m.linear(y)
    with torch.autocast("cpu", enabled=False):
        z = m.plain(y.float())
    return z + y


WRITES: dict[str, Function] = {
    "read under both names": lambda m, x, y: m.writes(y) + y * 2,
    "not read": lambda m, x, y: (m.writes(y), y)[1],
    "in a dict": lambda m, x, y: m.in_dict(y)["hidden"] + y * 2,
    "in a pair": lambda m, x, y: m.in_pair(y)[0] + y * 2,
    "again": lambda m, x, y: m.writes(m.writes(y) - 0.5) + m.writes(y),
    "a hook": lambda m, x, y: m.hooked(y) + y * 2,
    "a script": lambda m, x, y: _scripted(y) + y * 2,
    "a layer in an island": _under_autocast,
    "a layer": lambda m, x, y: m.plain(y) + y * 2,
}


@pytest.mark.parametrize("name", WRITES)
def test_what_modules_write_under_autocast(name: str) -> None:
    """There it may be a copy, and without it what they are given."""
    modules = {
        "writes": WritesInFloat(),
        "in_dict": WritesInFloat(lambda y: {"hidden": y, "number": 3}),
        "in_pair": WritesInFloat(lambda y: (y, y.shape)),
        "hooked": _hooked(),
        "plain": nn.ReLU(inplace=True),
    }
    model = net(WRITES[name], **modules)
    program = program_of(model)
    assert_equal(program, model, x(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_equal(program, model, x(5))
    first = model.eval()[0]
    assert isinstance(first, Adds)
    residue = program.eval().transport(x(5)).residues[0]
    assert torch.equal(residue, WRITES[name](first, x(5), first.linear(x(5))))
