"""The pieces that code takes a tensor apart into: right for each number of them, or guarded."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tracing.blocks import Function, assert_equal, check, guarded, net, opened, program_of, x


class Chunks:
    """What code does with pieces."""

    @staticmethod
    def by_loop(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([m.linear(c) for c in x.split(4)])

    @staticmethod
    def by_length(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y / len(x.split(4))

    @staticmethod
    def by_truth(m: Any, x: Tensor, y: Tensor) -> Tensor:
        pieces = list(x.split(4))
        total = torch.zeros(())
        while pieces:
            total = total + pieces.pop().mean()
        return y * total

    @staticmethod
    def by_chunk(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([c.tanh() for c in torch.chunk(y, 4)])

    @staticmethod
    def by_unbind(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([row.tanh() for row in y.unbind()])

    @staticmethod
    def by_iteration(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([row * i for i, row in enumerate(y)])

    @staticmethod
    def by_zip(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([a * b for a, b in zip(x, y, strict=True)])

    @staticmethod
    def by_comprehension_of_lengths(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y * sum(len(c) for c in x.split(3))

    @staticmethod
    def by_last(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y * x.split(2)[-1].mean()

    @staticmethod
    def by_slice(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y * torch.cat(x.split(2)[1:]).mean()

    @staticmethod
    def by_sum(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y * torch.cat(x.split(2) + y.split(1)).mean()

    @staticmethod
    def by_star(m: Any, x: Tensor, y: Tensor) -> Tensor:
        first, *others = y.unbind()
        return torch.stack([first * 2, *others])

    @staticmethod
    def by_tensor_split(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([c * 2 for c in y.tensor_split(3)])

    @staticmethod
    def by_reversed(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat(list(reversed(y.split(2))))


WAYS = [name for name in vars(Chunks) if name.startswith("by_")]


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("batch", [4, 5, 8, 9])
def test_other_numbers_of_pieces_are_right_or_guarded(name: str, batch: int) -> None:
    model = net(getattr(Chunks, name))
    program = program_of(model, x(6))
    assert {"0", "1"} <= opened(program)
    assert_equal(program, model, x(6))
    if _same_number(name, batch):
        assert_equal(program, model, x(batch))
    else:
        message = guarded(program, model, x(batch))
        assert "0 (Adds) at test_pieces.py" in message
        assert "compile again" in message


def _same_number(name: str, batch: int) -> bool:
    """Whether the code takes as many pieces of a batch as of six samples."""
    numbers = {
        "by_loop": lambda n: -(-n // 4),
        "by_length": lambda n: -(-n // 4),
        "by_truth": lambda n: -(-n // 4),
        "by_chunk": lambda n: len(torch.zeros(n).chunk(4)),
        "by_comprehension_of_lengths": lambda n: -(-n // 3),
        "by_tensor_split": lambda n: 3,
        "by_last": lambda n: -(-n // 2),
        "by_slice": lambda n: -(-n // 2),
        "by_reversed": lambda n: -(-n // 2),
    }
    count = numbers.get(name, lambda n: n)
    return bool(count(batch) == count(6))


@pytest.mark.parametrize(
    ("name", "shape", "other"),
    [("split", (12, 8), (16, 8)), ("len", (12, 8), (16, 8)), ("chunk", (6, 8), (9, 8))],
)
def test_pieces_of_a_sequence(name: str, shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    ways: dict[str, Function] = {
        "split": lambda m, x, y: torch.cat([m.linear(c) for c in x.split(4, dim=1)], 1),
        "len": lambda m, x, y: y / len(x.split(4, dim=1)),
        "chunk": lambda m, x, y: torch.cat([c * 2 for c in y.chunk(4, 1)], 1),
    }
    model = net(ways[name])
    program = program_of(model, x(2, *shape))
    assert_equal(program, model, x(5, *shape))
    if name == "chunk":  # three pieces of six rows, as of nine
        assert_equal(program, model, x(5, *other))
    else:
        assert "compile again" in guarded(program, model, x(2, *other))
    again = program_of(model, x(2, *other))
    assert_equal(again, model, x(5, *other))


def attend(m: Any, x: Tensor, y: Tensor) -> Tensor:
    """Attention, whose three inputs are unpacked from a tensor."""
    q, k, v = torch.stack([y, y * 2, y.tanh()])
    return (q @ k.mT).softmax(-1) @ v


def test_tensors_are_unpacked() -> None:
    check(attend, example=x(2, 5, 8))


def rows(m: Any, x: Tensor, y: Tensor) -> Tensor:
    """A loop over the rows of a sequence."""
    state, states = torch.zeros(8), []
    for row in y.transpose(0, 1):
        state = state + row.tanh()
        states.append(state)
    return torch.stack(states, 1)


def test_rows_of_a_tensor() -> None:
    model = net(rows)
    program = check(rows, example=x(2, 5, 8))
    assert "compile again" in guarded(program, model, x(2, 6, 8))


STRUCTURES: dict[str, Function] = {
    "max": lambda m, x, y: y.max(-1, keepdim=True).values + y.max(-1).indices[:, None],
    "topk": lambda m, x, y: sum(y.topk(3)[0].unbind(-1))[:, None],
    "split of fixed sizes": lambda m, x, y: torch.cat(y.split([3, 5], -1)[::-1], -1),
    "unpacked": lambda m, x, y: (lambda a, b: a * b.repeat(1, 3)[:, :4])(
        *y.split([4, 4], 1)
    ).mean(),
    "in": lambda m, x, y: y if 8 in y.shape[1:] else -y,
    "meshgrid": lambda m, x, y: y + torch.meshgrid(x[0], y[0], indexing="ij")[1],
    "nested": lambda m, x, y: [{"a": (y, [x])}][0]["a"][1][0] * y,
    "sort": lambda m, x, y: torch.sort(y, dim=1)[0] + y.sort()[1],
    "equal lists": lambda m, x, y: y if list(y.shape[1:]) == [8] else -y,
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_that_torch_returns(name: str) -> None:
    example = x(8) if name == "meshgrid" else x(2)
    model = net(STRUCTURES[name])
    program = program_of(model, example)
    assert_equal(program, model, x(8))
