"""Sizes and other numbers: plain Python for the model's code, and right for other inputs."""

import math
import operator
from collections.abc import Iterable, Sized
from typing import Any

import numpy as np
import pytest
import torch

from tests.tracing.blocks import Function, assert_equal, check, guarded, net, program_of, x

NUMBERS: dict[str, Function] = {
    "arithmetic": lambda m, x, y: y * (x.shape[0] + 1 - 2 * x.shape[1] // 3 % 5) / -x.size(1),
    "reflected": lambda m, x, y: y * (1 / x.shape[0] + 2 ** x.shape[1] + 9 // x.size(1)),
    "powers": lambda m, x, y: y * x.shape[-1] ** -0.5,
    "comparison": lambda m, x, y: y * (x.shape[0] == len(y)) + (x.shape[0] >= 1),
    "divmod": lambda m, x, y: y * divmod(x.shape[-1], 3)[0] + divmod(100, x.shape[0])[1],
    "np.sqrt": lambda m, x, y: y / float(np.sqrt(x.shape[-1])),
    "np.prod": lambda m, x, y: y * int(np.prod(x.shape[1:])),
    "np number": lambda m, x, y: y * np.float64(0.5) + np.int64(2),
    "math": lambda m, x, y: y * math.sqrt(x.shape[-1]) + math.log2(x.shape[1]) + math.ceil(0.5),
    "round": lambda m, x, y: y * round(x.shape[1] / 3) + round(x.shape[1] / 3, 1),
    "int and float": lambda m, x, y: y * int(x.shape[1] / 3) + float(x.shape[1]),
    "abs": lambda m, x, y: y * abs(-x.shape[0]) + operator.index(x.shape[1]),
    "bits": lambda m, x, y: y * ((x.shape[1] << 1) | 1) + (x.shape[1] & 7 ^ 3) + ~x.shape[0],
    "range": lambda m, x, y: y * sum(range(x.shape[1])),
    "index": lambda m, x, y: y * list(range(100))[x.shape[1]],
    "slice": lambda m, x, y: y[:, : x.shape[1] // 2].repeat(1, 2) * y[:, -x.shape[1] :],
    "string": lambda m, x, y: y * len(f"{x.shape[1]}:{x.shape[1]:>4}") + len(str(x.shape[1])),
    "dict key": lambda m, x, y: y * {8: 2}[x.shape[1]],
    "isinstance": lambda m, x, y: y * (2 if isinstance(x.shape[1], int) else 3),
    "type checks": lambda m, x, y: y * (2 if isinstance(x.shape, torch.Size | tuple) else 3),
    "bool": lambda m, x, y: y * 2 if x.shape[1] and not x.shape[1] - 8 else y,
    "unpack": lambda m, x, y: (lambda b, c: y.reshape(b * c).reshape(b, -1) * c)(*x.shape),
    "star": lambda m, x, y: y.reshape(*x.shape[:-1], 2, -1).flatten(1),
    "concatenated": lambda m, x, y: y.reshape(x.shape[:1] + (2, 4)).reshape((len(y), *[8])),  # noqa: RUF005
    "compared shapes": lambda m, x, y: y * 2 if x.shape == y.shape else y,
    "dtype": lambda m, x, y: y.to(x.dtype).type(torch.float64).to(dtype=y.dtype),
    "dtype compared": lambda m, x, y: y * (2 if x.dtype in (torch.float32, torch.float16) else 3),
    "dtype of another": lambda m, x, y: y.double().to(m.linear.weight.dtype),
    "numel": lambda m, x, y: y / x[0].numel() + x.nelement(),
    "ternary": lambda m, x, y: y * (x.shape[1] if x.shape[1] > 4 else 4),
    "chained": lambda m, x, y: y * 2 if 1 < x.shape[1] <= 8 else y,
    "sorted": lambda m, x, y: y * sorted(x.shape[1:])[0] + max(*x.shape[1:], 3),
    "any": lambda m, x, y: y * any(n == 8 for n in x.shape[1:]),
    "bit_length": lambda m, x, y: y * x.shape[1].bit_length(),
    "is_integer": lambda m, x, y: y * 2 if (x.shape[1] / 4).is_integer() else y,
    "hash": lambda m, x, y: y * len({x.shape[1], 8}),
    "full": lambda m, x, y: y + torch.full((x.shape[0], 8), x.shape[1]) * torch.tensor(x.shape[1]),
    "arange": lambda m, x, y: y * torch.arange(x.shape[0])[:, None] * torch.arange(0, x.shape[1]),
    "linspace": lambda m, x, y: y * torch.linspace(0, 1, x.shape[1]),
    "tensor": lambda m, x, y: y * torch.tensor([x.shape[0], 1.0]).sum() * torch.as_tensor(0.5),
    "eye": lambda m, x, y: y @ torch.eye(x.shape[1]) + torch.ones(y.shape).tril(),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_shapes(name: str) -> None:
    check(NUMBERS[name])


DECISIONS: dict[str, Function] = {
    "if": lambda m, x, y: y.relu() if x.shape[0] > 4 else y,
    "range": lambda m, x, y: sum((y * i for i in range(x.shape[0])), torch.zeros(())),
    "float": lambda m, x, y: y * float(x.shape[0]),
    "np": lambda m, x, y: y * float(np.sqrt(x.shape[0])),
    "math": lambda m, x, y: y * math.sqrt(x.shape[0]),
    "string": lambda m, x, y: y * len(f"{x.shape[0] * 5}"),
    "dict": lambda m, x, y: y * {2: 1}.get(x.shape[0], 3),
    "set": lambda m, x, y: y * len({x.shape[0], 2}),
    "in": lambda m, x, y: y * 2 if 2 in x.shape else y,
    "even": lambda m, x, y: y.flip(0) if x.shape[0] % 2 else y,
    "index": lambda m, x, y: y * [1, 2, 3, 4, 5, 6, 7, 8, 9, 10][x.shape[0]],
}


@pytest.mark.parametrize("name", DECISIONS)
@pytest.mark.parametrize("batch", [1, 2, 3, 5, 6])
def test_decisions_by_numbers_are_guarded(name: str, batch: int) -> None:
    """Where the outcome is that of the example, the number is right; else the input is refused."""
    model = net(DECISIONS[name])
    program = program_of(model, x(2))
    assert_equal(program, model, x(2))
    same = {"if": batch <= 4, "even": batch % 2 == 0}
    if same.get(name, batch == 2):
        assert_equal(program, model, x(batch))
    else:
        message = guarded(program, model, x(batch))
        assert "0 (Adds) at test_value_proxy.py" in message
        assert "compile again" in message


def pair(n: Any) -> tuple[Any, Any]:
    """Of a number or a pair, as models of timm have it."""
    return tuple(n) if isinstance(n, Iterable) and not isinstance(n, str) else (n, n)


LOOKS: dict[str, Function] = {
    "Iterable": lambda m, x, y: y * sum(pair(x.shape[1])),
    "Sized": lambda m, x, y: y * (2 if isinstance(x.shape[1], Sized) else 3),
    "hasattr": lambda m, x, y: y * (2 if hasattr(x.shape[1], "__len__") else 3),
    "iter": lambda m, x, y: y * (2 if hasattr(x.shape[1], "__iter__") else 3),
    "call": lambda m, x, y: y * (2 if hasattr(x.shape[1], "__call__") else 3),  # noqa: B004
    "Size.numel": lambda m, x, y: y / x.shape.numel() + x.shape[1:].numel(),
}


@pytest.mark.parametrize("name", LOOKS)
def test_code_looks_at_what_a_number_can_do(name: str) -> None:
    check(LOOKS[name])


def matched(m: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    match x.shape:
        case [_, 8]:
            return y * 2
        case _:
            return y.exp()


def test_shapes_are_matched() -> None:
    check(matched)


def test_an_attribute_that_is_not_there() -> None:
    """A proxy has the attributes of its value, and no others."""
    check(lambda m, x, y: y * getattr(x.shape[0], "no_such", 2))
    check(lambda m, x, y: y * (2 if isinstance(x.shape, Iterable) else 3))


def test_the_message_of_the_models_own_error() -> None:
    def branch(m: object, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if x.shape[1] != 8:
            raise ValueError(f"expected 8, got {x.shape[1]}")
        return y

    check(branch)
