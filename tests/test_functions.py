"""What stands for functions of the model's code in a graph."""

import math
from typing import Any

import pytest
import torch

from fxtransport.functions import Code, Constant, Transformed, apply_function, call_script


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0] * 3


@pytest.mark.parametrize("value", [max, math.sqrt, lambda x: x, dict])
def test_what_is_handed_on_has_a_name_that_code_can_use(value: Any) -> None:
    constant = Constant(value)
    assert constant() is value
    assert constant.__name__.isidentifier()
    assert constant == Constant(value) != Constant(min)


def test_an_autograd_function_keeps_its_own_backward() -> None:
    x = torch.ones(2, requires_grad=True)
    apply_function(Twice)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3, 3]
    assert apply_function(Twice) is apply_function(Twice)


def test_a_scripted_function_is_called() -> None:
    with pytest.warns(FutureWarning, match="deprecated"):
        scripted = torch.jit.script(math_of)
    assert call_script(scripted)(torch.ones(1)).item() == 3


def math_of(x: torch.Tensor) -> torch.Tensor:
    return x * 2 + 1


def test_a_transformed_function_is_given_the_variables_of_its_code() -> None:
    def around(scale: int) -> Any:
        return lambda x, shift=1: x * scale + shift

    code = Code.of(around(2))
    assert code == Code.of(around(5))
    transformed = Transformed(lambda function, x: function(x), code)
    assert transformed((7,), 3) == 22
    assert transformed == Transformed(max, Code.of(around(3))) != Transformed(max, None)
    assert Transformed(lambda function, x: function(x), None)((math.sqrt,), 4) == 2
