"""What generated code calls: guards, modes, gradients, measures."""

import pytest
import torch
from torch import nn

from fxtransport.errors import GuardError
from fxtransport.ir import Kind
from fxtransport.residue import Measures, Residue
from fxtransport.runtime import (
    Conditional,
    add_out_of_place,
    call_without_gradient,
    choose,
    copied,
    displaced,
    guard,
    measured,
    run_if,
    scaled,
    tapped,
    without_gradient,
)


def test_a_guard_lets_pass_what_it_was_compiled_for() -> None:
    guard(3, 3, "a place")
    with pytest.raises(GuardError, match="a number in a place is 3, and this input makes it 4"):
        guard(4, 3, "a place")
    with pytest.raises(GuardError, match=r"a value in a place is None, and .* makes it Tensor"):
        guard(torch.zeros(1), None, "a place")


def test_what_depends_on_the_mode() -> None:
    assert run_if(True, max, 1, 2) == 2
    assert run_if(False, max, 1, 2) is None
    assert (choose(True, "train", "eval"), choose(False, "train", "eval")) == ("train", "eval")
    only = Conditional(max)
    assert (only(True, 1, 2), only(False, 1, 2)) == (2, None)
    assert only.__name__ == "max_if"


def test_what_the_model_calls_without_gradients() -> None:
    x = torch.ones(2, requires_grad=True)
    assert torch.sin(x).requires_grad
    assert not call_without_gradient(torch.sin, x).requires_grad
    wrapped = without_gradient(torch.sin)
    assert not wrapped(x).requires_grad
    assert torch.equal(wrapped(x), torch.sin(x))
    assert without_gradient(torch.sin) is wrapped
    assert without_gradient(torch.cos) is not wrapped
    assert wrapped.__name__ == "sin_without_gradient"


def test_an_addition_in_place_becomes_one_out_of_place() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        branch, other = torch.ones(3, dtype=dtype), torch.full((3,), 0.5)
        total = add_out_of_place(branch, other)
        expected = branch.clone()
        expected += other
        assert total.dtype == dtype
        assert torch.equal(total, expected)
        assert torch.equal(branch, torch.ones(3, dtype=dtype))


def block(measure: object) -> torch.Tensor | None:
    branches = (torch.ones(2, 3), torch.ones(2, 3))
    skip = torch.zeros(2, 3)
    output = skip + sum(branches)
    return measured(measure, "identity", branches, skip, output, True, False)  # type: ignore[arg-type]


def test_a_measure_is_given_the_block() -> None:
    seen: list[Residue] = []

    def measure(residue: Residue) -> torch.Tensor:
        seen.append(residue)
        return residue.branch.sum()

    found = block(measure)
    assert found is not None
    assert found.item() == 12
    assert block(Measures(residue=measure)) == found
    assert [residue.kind for residue in seen] == [Kind.IDENTITY] * 2


def test_nothing_is_measured_unless_asked() -> None:
    value = torch.ones(2)

    def name_and_sum(name: str, x: torch.Tensor) -> torch.Tensor:
        return x.sum() + len(name)

    assert block(None) is None
    assert block(Measures()) is None
    assert tapped(None, "fc", value) is None
    assert tapped(lambda _: value, "fc", value) is None
    assert tapped(Measures(), "fc", value) is None
    assert tapped(Measures(activation=name_and_sum), "fc", value) == 4
    assert copied(None, value) is None
    for nothing in (None, Measures(), Measures(activation=name_and_sum)):
        assert scaled(nothing, value, 2) is None
        assert displaced(nothing, value, value) is None


def test_what_is_overwritten_is_copied_before() -> None:
    value = torch.ones(2)
    kept = copied(Measures(), value)
    nn.init.zeros_(value)
    assert kept is not None
    assert kept.tolist() == [1, 1]


def test_residues_have_the_scale_of_the_model() -> None:
    value, skip = torch.ones(2), torch.full((2,), 3.0)
    measures = Measures(residue=lambda residue: residue.branch)
    twice, difference = scaled(measures, value, -2), displaced(measures, value, skip)
    assert twice is not None
    assert difference is not None
    assert twice.tolist() == difference.tolist() == [-2, -2]
