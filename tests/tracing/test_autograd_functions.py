"""Functions of autograd whose ``apply`` was taken before: nodes with a backward of their own."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.compiling import assert_identical
from tests.tracing.blocks import Apart, Function, assert_same, check, net, x


class Scaled(torch.autograd.Function):
    """Multiplies by a number, and triples the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, by: float, also: Tensor | None = None) -> Tensor:
        ctx.by = by
        return x * by

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * ctx.by * 3, None, None


class Separate(torch.autograd.Function):
    """The newer form, with a context of its own."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad.reshape(ctx.shape) * 3


class Noisy(torch.autograd.Function):
    """Draws in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
        return x * by, x.sum(-1, keepdim=True)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0] * torch.rand(len(grads[0]), 1) + grads[1], None


apply_scaled, apply_separate, apply_noisy = Scaled.apply, Separate.apply, Noisy.apply
"""Methods of C, taken before anything is traced."""


def without_gradients(m: Any, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        gate = apply_scaled(y, 0.5)
    return y * gate


def noisy(m: Any, x: Tensor, y: Tensor) -> Tensor:
    scaled, total = apply_noisy(y, torch.rand(len(y), 1))
    return scaled * total


CALLS: dict[str, Function] = {
    "of a number": lambda m, x, y: apply_scaled(y, 0.5),
    "of a size": lambda m, x, y: apply_scaled(y, 1 / x.shape[-1], x),
    "with a context": lambda m, x, y: apply_separate(y),
    "in an attribute": lambda m, x, y: m.kept(m.kept(y, 2.0), 0.5),
    "of a parameter": lambda m, x, y: y * apply_separate(m.linear.bias),
    "of a detached tensor": lambda m, x, y: y * apply_separate(x.detach()),
    "without gradients": without_gradients,
    "draws": noisy,
}


@pytest.mark.parametrize("name", CALLS)
def test_functions_keep_their_backward(name: str) -> None:
    check(CALLS[name], kept=Scaled.apply)


@pytest.mark.parametrize("name", CALLS)
def test_in_modules_that_are_not_opened(name: str) -> None:
    assert_same(net(CALLS[name], Apart, kept=Scaled.apply), x(5), example=(x(2),))


def test_forward_alone_is_traced() -> None:
    """Its gradient is that of what it computes."""
    check(lambda m, x, y: Separate.forward(y) + Scaled.forward(m, y, 2.0), by=1.0)


def test_classes_are_as_before() -> None:
    before = type(torch.autograd.Function).__dict__.get("__getattribute__")
    check(CALLS["with a context"])
    assert type(torch.autograd.Function).__dict__.get("__getattribute__") is before
    given = torch.ones(2, requires_grad=True)
    apply_separate(given).sum().backward()
    assert_identical(given.grad, torch.full((2,), 3.0))
