"""Calls of torch's functions become nodes, and no C function is given a pretender."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.tracing.blocks import Adds, Function, assert_equal, check, net, program_of, remedied, x

CALLS: dict[str, Function] = {
    "where, a number": lambda m, x, y: torch.where(y > 0, y, 0.0),
    "where, a number first": lambda m, x, y: torch.where(y > 0, -1.0, y),
    "where, a method": lambda m, x, y: y.where(x > 0, 0.5),
    "pow": lambda m, x, y: torch.pow(y, 2),
    "pow of a number": lambda m, x, y: torch.pow(2, y),
    "**": lambda m, x, y: y**2 + 2**y,
    "remainder": lambda m, x, y: torch.remainder(y, 0.3),
    "remainder of a number": lambda m, x, y: torch.remainder(3, y.detach()) * y,
    "%": lambda m, x, y: y % 0.3,
    "float_power": lambda m, x, y: torch.float_power(y.abs(), 0.5).to(y.dtype),
    "xlogy": lambda m, x, y: torch.xlogy(0.5, y.abs() + 1),
    "result_type": lambda m, x, y: y.to(torch.result_type(y, 1.0)),
    "promote_types": lambda m, x, y: y.to(torch.promote_types(y.dtype, torch.float16)),
    "can_cast": lambda m, x, y: y.exp() if torch.can_cast(torch.int8, y.dtype) else y,
    "bucketize": lambda m, x, y: torch.bucketize(0.5, y.detach()[0]) * y,
    "clamp, reflected": lambda m, x, y: 1 - y / (2 - y.clamp(-1, 1)),
    "einsum": lambda m, x, y: torch.einsum("bi,bj->bi", y, x),
    "tensordot": lambda m, x, y: torch.tensordot(y, x, dims=([1], [1])) @ y,
    "special": lambda m, x, y: torch.special.entr(y.sigmoid()),
    "linalg": lambda m, x, y: y / torch.linalg.vector_norm(y, dim=-1, keepdim=True),
    "fft": lambda m, x, y: torch.fft.fft(y).real,
    "functional": lambda m, x, y: nn.functional.gelu(y, approximate="tanh"),
    "in place": lambda m, x, y: y.clone().mul_(2).add_(1, alpha=0.5).clamp_(min=0),
    "out=": lambda m, x, y: y + torch.add(x.detach(), 1, out=torch.empty(x.shape)),
    "setitem": lambda m, x, y: _set_item(y),
    "index": lambda m, x, y: y[:, torch.arange(8)] + y[..., None, :].squeeze(-2),
    "len": lambda m, x, y: y * len(x),
    "dim": lambda m, x, y: y * y.dim() + y.ndim + y.ndimension(),
    "numel": lambda m, x, y: y / y.numel() + y.size(0) + y.size()[-1],
    "element size": lambda m, x, y: y * y.element_size(),
    "stride": lambda m, x, y: y * y.stride(-1),
    "mT": lambda m, x, y: (y.mT @ x).mean() * y,
    "dtype": lambda m, x, y: y.exp() if y.dtype == torch.float32 else y,
    "is_floating_point": lambda m, x, y: y.exp() if y.is_floating_point() else y,
    "is_complex": lambda m, x, y: y.real if torch.is_complex(y) else y,
    "layout": lambda m, x, y: y.exp() if y.layout == torch.strided else y,
    "is_sparse": lambda m, x, y: y.to_dense() if y.is_sparse else y,
    "is_cuda": lambda m, x, y: y.exp() if y.is_cuda else y.tanh(),
    "is_tensor": lambda m, x, y: y.exp() if torch.is_tensor(y) else y,
    "isinstance": lambda m, x, y: y.exp() if isinstance(y, Tensor) else y,
    "type_as": lambda m, x, y: y.double().type_as(x),
    "new_*": lambda m, x, y: y * x.new_ones(len(x), 8) * x.new_full((8,), 0.5),
    "*_like": lambda m, x, y: y * torch.rand_like(x) + torch.full_like(y, 2),
    "printing": lambda m, x, y: y.exp() if f"{y}" and repr(y) else y,
    "detach": lambda m, x, y: y + (y.round() - y).detach(),
}


def _set_item(y: Tensor) -> Tensor:
    y = y.clone()
    y[:, 0] = 1
    y[y > 1] = 0.5
    return y


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_nodes(name: str) -> None:
    check(CALLS[name])


DEVICES: dict[str, Function] = {
    "is_meta": lambda m, x, y: y.exp() if y.is_meta else y.tanh(),
    "is_cpu": lambda m, x, y: y.exp() if y.is_cpu else y.tanh(),
    "type": lambda m, x, y: y.exp() if y.device.type == "cpu" else y.tanh(),
    "string": lambda m, x, y: y.exp() if str(x.device).startswith("cpu") else y.tanh(),
    "of a parameter": lambda m, x, y: y.exp() if m.linear.weight.device.type == "cpu" else y.tanh(),
}


@pytest.mark.parametrize("name", DEVICES)
def test_code_decides_by_a_device(name: str) -> None:
    """It is told the device that the model is on, not the one that it is traced on."""
    check(DEVICES[name])


def test_the_name_of_a_type() -> None:
    check(lambda m, x, y: y.exp() if y.type() == "torch.FloatTensor" else y)


def test_a_checkpoint_where_gradients_are_computed() -> None:
    """The question is answered, and the answer changes no number."""

    def branch(module: Any, x: Tensor, y: Tensor) -> Any:
        if module.training and x.requires_grad:
            return checkpoint(module.linear, x, use_reentrant=False)
        return module.linear(x)

    model = net(branch)
    program = program_of(model, x(2))
    assert_equal(program, model, x(5))
    program(x(2)).sum().backward()  # of an input without gradients, too
    with torch.no_grad():
        assert torch.equal(program(x(5)), model(x(5)))


REFUSED: dict[str, tuple[Function, str]] = {
    "autograd.grad": (
        lambda m, x, y: torch.autograd.grad(y.sum(), y, allow_unused=True)[0] + y,
        "differentiates (torch.autograd.grad)",
    ),
    "register_hook": (
        lambda m, x, y: _hook(y),
        "registers a hook on a tensor",
    ),
    "retain_grad": (
        lambda m, x, y: x if y.retain_grad() else y,
        "asks to keep a gradient (retain_grad)",
    ),
    ".data": (lambda m, x, y: _assign_data(y), "assigns to .data of a tensor"),
    "grad_fn": (lambda m, x, y: y if y.grad_fn is None else 2 * y, "looks at .grad_fn of a tensor"),
    "grad": (
        lambda m, x, y: y * [1, 1][m.linear.weight.grad is None],
        "looks at .grad of a tensor",
    ),
}


def _hook(y: Tensor) -> Tensor:
    if y.requires_grad:
        y.register_hook(lambda g: g * 2)
    return y


def _assign_data(y: Tensor) -> Tensor:
    z = torch.zeros(8)
    z.data = torch.ones(8)
    return y * z


@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.parametrize("name", ["register_hook", ".data", "grad"])
def test_what_autograd_knows_is_refused(name: str) -> None:
    function, words = REFUSED[name]
    remedied(function, words)


@pytest.mark.parametrize("name", ["autograd.grad", "retain_grad", "grad_fn"])
def test_code_that_runs_with_gradients_only(name: str) -> None:
    """The model itself raises without them, or decides by them: it runs in a closed module."""
    function, words = REFUSED[name]
    remedied(lambda m, x, y: function(m, x, y) if m.training else y, words)


def test_a_block_is_called_as_a_function_of_tensors() -> None:
    """Where a subclass of tensor is given, the block computes what the model does."""
    model = net(lambda m, x, y: torch.where(y > 0, y, 0.0))
    program = program_of(model)
    parameter = nn.Parameter(x(3))
    assert torch.equal(program(parameter), model(parameter))
    assert isinstance(model[0], Adds)
