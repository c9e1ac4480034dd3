"""What becomes of a module of somebody else, and what is counted."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from foreign import judge_all, meets_targets, summary
from foreign_modules import Case, Library, images, tensors
from foreign_modules.judging import (
    CRASHED,
    EAGER,
    EXACT,
    GUARDED,
    LATE,
    RIGHTLY,
    WRONG,
    WRONGLY,
    Judgment,
    as_json,
    compare,
    judge,
    refusal,
)
from foreign_modules.runs import Run, difference, leaves, run, same
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.errors import TraceError, VerificationError


class Block(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.linear(self.norm(x))
        return x + branch


class Chooser(nn.Module):
    """Decides on the numbers, or on the size, of what it is given."""

    def __init__(self, size: bool) -> None:
        super().__init__()
        self.size = size
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.linear(x)
        large = x.shape[0] > 2 if self.size else x.sum() > 0
        return y * 2 if large else y


class Fails(nn.Module):
    """Cannot be run."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no forward")


def net() -> nn.Module:
    return nn.Sequential(Block(), Block(), nn.Dropout(), nn.Linear(4, 3))


def known(**tables: dict[str, Any]) -> Library:
    nothing: dict[str, Any] = {"residuals": {}, "refused": {}, "guarded": {}}
    return Library("own", {}, **{**nothing, **tables})


def judged(build: Callable[[], nn.Module], **tables: dict[str, Any]) -> Judgment:
    return judge(Case("net", build, tensors((4,))), known(**tables))


def test_an_exact_module_is_cut_and_its_residuals_are_counted() -> None:
    judgment = judged(net, residuals={"net": 2})
    assert (judgment.outcome, judgment.reason) == (EXACT, "")
    assert (judgment.parts, judgment.found, judgment.expected) == (2, 2, 2)
    assert judgment.residuals == {"identity": 2}


def test_a_refusal_is_right_where_its_reason_is_known() -> None:
    def build() -> nn.Module:
        return Chooser(size=False)

    assert judged(build).outcome == WRONGLY
    judgment = judged(build, refused={"net": "decides on the sum of its input"})
    assert (judgment.outcome, judgment.error) == (RIGHTLY, "TraceError")


@pytest.mark.parametrize("error", [VerificationError("differs"), KeyError("x"), TraceError("no")])
def test_only_errors_of_ours_that_are_not_of_numbers_can_be_right(error: Exception) -> None:
    judgment = Judgment("own", "net")
    refusal(judgment, error, known(refused={"net": "decides on data"}))
    expected = {"VerificationError": WRONGLY, "KeyError": CRASHED, "TraceError": RIGHTLY}
    assert judgment.outcome == expected[type(error).__name__]


def test_a_guard_at_another_batch_size_is_counted_apart() -> None:
    judgment = judged(lambda: Chooser(size=True), guarded={"net": "decides on the batch size"})
    assert judgment.outcome == GUARDED
    assert judgment.rightly_guarded
    assert len(judgment.guards) == 4


def test_a_module_that_does_not_run_is_not_compiled() -> None:
    judgment = judged(Fails)
    assert (judgment.outcome, judgment.reason) == (EAGER, "ValueError: no forward")


def test_other_numbers_are_wrong() -> None:
    case = Case("net", net, tensors((4,)))
    model, other = net(), net()
    expected = []
    for training in (True, False):
        other.train(training)
        expected += [run(other, lambda x: other(*x), case, batch) for batch in (2, 3)]
    judgment = Judgment("own", "net")
    compare(judgment, transportify(model, torch.zeros(2, 4), modules=2), case, expected * 2)
    assert (judgment.outcome, judgment.reason) == (WRONG, "train, batch 2: output differs")


def outcome(**parts: dict[str, Any]) -> Run:
    nothing: dict[str, Any] = {"returned": {}, "gradients": {}, "buffers": {}}
    state = torch.get_rng_state()
    return Run(**{**nothing, **parts}, generators=(state, (), ()))


@pytest.mark.parametrize(
    ("part", "what"),
    [
        ("returned", "x differs"),
        ("buffers", "buffer x differs"),
        ("gradients", "gradient of x differs by 1"),
    ],
)
def test_each_difference_is_named(part: str, what: str) -> None:
    one, other = ({part: {"x": torch.full((2,), value)}} for value in (0.0, 1.0))
    assert difference(outcome(**one), outcome(**other)) == (what, 0.0)
    assert difference(outcome(**one), outcome(**one)) == ("", 0.0)


def test_noise_in_gradients_is_measured() -> None:
    one, other = ({"gradients": {"x": torch.tensor([1.0, value])}} for value in (0.0, 1e-6))
    what, noise = difference(outcome(**one), outcome(**other))
    assert what == ""
    assert noise == pytest.approx(1e-6)


def test_a_gradient_of_zeros_is_none() -> None:
    zeros = {"gradients": {"x": torch.zeros(2)}}
    assert difference(outcome(), outcome(**zeros)) == ("", 0.0)


def test_leaves_have_their_paths_and_classes() -> None:
    found = dict(leaves({"a": (torch.ones(1), None), "b": 2.0}))
    assert found["class of output"] == "dict"
    assert found["class of output.a"] == "tuple"
    assert found["output.a.1"] is None
    assert found["output.b"] == 2.0


def test_equal_is_bit_for_bit_and_nan_is_nan() -> None:
    x = torch.tensor([1.0, math.nan])
    assert same(x, x.clone())
    assert not same(x, x.double())
    assert not same(torch.zeros(1), torch.full((1,), 1e-30))
    assert same(math.nan, math.nan)
    assert not same(1, 1.0)


def test_targets_allow_no_crash_and_few_refusals() -> None:
    records = [as_json(Judgment("own", str(i), parts=1, expected=0)) for i in range(200)]
    assert meets_targets(summary(records))
    for record in records[:3]:
        record["outcome"] = WRONGLY
    found = summary(records)
    assert (found[EXACT], found[WRONGLY], found["residuals right"]) == (197, 3, 200)
    assert not meets_targets(found)
    records[0]["outcome"] = CRASHED
    assert not meets_targets(summary(records[:1] + records[3:]))


def test_images_have_the_batch_first() -> None:
    assert images(8, 1)(3).shape == (3, 1, 8, 8)


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "expected"), [(60.0, CRASHED), (0.0, LATE)])
def test_a_process_that_ends_or_is_late_has_a_record(limit: float, expected: str) -> None:
    (record,) = judge_all([("torch", "no such case")], 1, True, limit)
    assert record["outcome"] == expected
    assert record["reason"] in ("the process ended with exit code 1", "more than 0 s")
