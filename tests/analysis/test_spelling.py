"""A recording spelled out says the same with additions, products and views."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fxtransport.analysis.spelling import SpelledOut, spell_out
from fxtransport.ir import Recording
from fxtransport.passes.record import Record
from tests.compiling import run_on

ROW = torch.zeros(2, dtype=torch.int64, device="meta")
SQUARE = torch.zeros(4, 4, device="meta")


class Two(nn.Module):
    """A function of the input and of what a layer makes of it."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.layer = function, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.layer(x).tanh())


def spelled(function: Callable[[Tensor, Tensor], Tensor]) -> tuple[Recording, SpelledOut]:
    recording = run_on(Two(function), (4,), Record()).fact(Recording)
    return recording, spell_out(recording)


def after_tanh(found: SpelledOut) -> list[str]:
    names = [op.name for op in found.recording.ops]
    return names[names.index("tanh") + 1 :]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x, f: x + f, ["add"]),
        (lambda x, _f: x + 0, ["alias"]),
        (lambda x, _f: x - 1, ["alias"]),
        (lambda x, _f: 1 - x, ["rsub"]),
        (lambda x, _f: x * 1, ["alias"]),
        (lambda x, _f: x * 2, ["mul"]),
        (lambda x, f: x - f, ["neg", "add"]),
        (lambda x, f: x.sub_(f, alpha=2), ["mul", "neg", "add_"]),
        (lambda x, f: torch.add(x, f, alpha=-1), ["neg", "add"]),
        (torch.rsub, ["neg", "add"]),
        (lambda x, f: torch.lerp(x, f, 0.5), ["sub", "mul", "add"]),
        (lambda x, f: torch.addcmul(x, f, f), ["mul", "add"]),
        (
            lambda x, f: torch.addmm(x, f, f.new_ones(4, 4), beta=3),
            ["new_ones", "mul", "mm", "add"],
        ),
        (lambda x, f: torch.stack([x, f, x]).sum(0), ["stack", "add", "add"]),
        (lambda x, f: torch.stack([x, f]).mean(-3), ["stack", "mul", "mul", "add"]),
        (lambda x, f: torch.stack([x, f]).sum(1), ["stack", "sum"]),
        (lambda x, f: torch.cat([x, f]).sum(0), ["cat", "sum"]),
        (lambda x, f: torch.cat([x, f]).view(2, -1, 4).sum(0), ["cat", "view", "add"]),
        (lambda x, f: torch.cat([x, f], 1).unflatten(-1, (2, 4)).sum(1), ["cat", "view", "add"]),
        (lambda x, f: torch.cat([x, f], 1).unflatten(-1, (4, 2)).sum(2), ["cat", "view", "sum"]),
        (lambda x, f: x.index_put((ROW,), f, accumulate=True), ["scatter", "add"]),
        (lambda x, f: x.index_put((ROW,), f), ["index_put"]),
    ],
)
def test_names(function: Callable[[Tensor, Tensor], Tensor], names: list[str]) -> None:
    _, found = spelled(function)
    assert after_tanh(found) == names


def test_a_bias_is_no_operand() -> None:
    """A linear layer stays one operation, whose bias has not the shape of the sum."""
    _, found = spelled(lambda x, f: x + f)
    assert [op.name for op in found.recording.ops] == ["t", "addmm", "tanh", "add"]
    assert list(found.sums) == [3]


def test_it_refers_to_the_operations_of_the_code() -> None:
    recording, found = spelled(lambda x, f: torch.sub(x, f, alpha=2) + 1)
    subtraction = next(i for i, op in enumerate(recording.ops) if op.name == "sub")
    (here,) = found.sums
    assert found.sources[here] == subtraction
    assert found.computes_known(here) and found.is_plain(here)
    one, other = (s.term for s in found.sums[here])
    assert (one.op, one.operand, one.factor, one.keyword) == (subtraction, 0, 1, None)
    assert (other.op, other.operand, other.factor, other.keyword) == (subtraction, 1, -1, "alpha")
    assert other.value == recording.ops[subtraction].inputs[1]


def test_what_an_operation_computes_is_no_multiple() -> None:
    recording, found = spelled(lambda x, f: torch.lerp(x, f, 0.5))
    (pair,) = found.sums.values()
    assert [s.term.factor for s in pair] == [1, None]
    assert pair[1].term.value == recording.ops[-1].inputs[1]
    assert not found.is_plain(next(iter(found.sums)))


def test_the_rest_stays_as_it_is() -> None:
    """Values keep their numbers, shapes and storages; calls begin where they began."""
    recording, found = spelled(lambda x, f: torch.lerp(x - f, f, 0.5))
    known = len(recording.shapes)
    new = found.recording
    assert new.shapes[:known] == recording.shapes
    assert new.storages[:known] == recording.storages
    assert len(set(new.storages[known:])) == len(new.shapes) - known
    assert new.outputs == recording.outputs
    for value, producer in enumerate(recording.producer):
        there = new.producer[value]
        assert (producer is None) == (there is None)
        assert there is None or found.sources[there] == producer
    for before, call in zip(recording.calls, new.calls, strict=True):
        assert found.sources[call.first] == before.first
