"""Only what changed and fooled counts as attacked."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from fxtransport.detection.attacks import AttackedSet
from fxtransport.errors import UsageError

BEFORE = [0, 1, 2, 3, 4, 5]
"""The labels are 0, 1, 2, 3, 4 and 0: the last image is misclassified."""
AFTER = [1, 1, 0, 2, 4, 5]


def make(**changes: Any) -> AttackedSet:
    clean = torch.rand(6, 1, 4, 4)
    attacked = clean + 0.1
    # the third is misclassified after it came back as it was, as a batch's numbers may do
    attacked[2] = clean[2]
    given = AttackedSet(
        attack="fgm",
        settings={"epsilon": 0.1},
        clean=clean,
        attacked=attacked,
        labels=torch.tensor([0, 1, 2, 3, 4, 0]),
        before=torch.tensor(BEFORE),
        after=torch.tensor(AFTER),
    )
    return replace(given, **changes)


def test_each_kind_is_counted_apart() -> None:
    found = make()
    assert found.successful.tolist() == [True, False, False, True, False, False]
    assert found.outcome.counted.tolist() == found.successful.tolist()
    assert found.misclassified.tolist() == [False] * 5 + [True]
    assert found.unchanged.tolist() == [False, False, True, False, False, False]
    assert found.counts == {
        "successful": 2,
        "misclassified before": 1,
        "unchanged": 1,
        "not fooled": 2,
        "counted": 2,
    }
    assert found.success_rate == pytest.approx(2 / 5)
    assert sum([*found.counts.values()][:4]) == len(found)


def test_all_are_counted_where_that_is_asked_for() -> None:
    found = make(count_all=True)
    assert found.outcome.counted.all()
    assert found.counts["counted"] == 6
    assert found.success_rate == pytest.approx(2 / 5)


def test_a_target_must_be_reached() -> None:
    found = make(targets=torch.tensor([1, 0, 0, 1, 0, 1]))
    assert found.successful.tolist() == [True, False, False, False, False, False]
    assert found.success_rate == pytest.approx(1 / 5)


def test_there_is_no_rate_where_nothing_was_right() -> None:
    assert math.isnan(make(before=torch.full((6,), 9)).success_rate)


def test_some_images_are_taken() -> None:
    found = make(broken=torch.tensor([False] * 5 + [True]))
    some = found.take(torch.tensor([3, 5]))
    assert some.successful.tolist() == [True, False]
    assert some.counts["broken"] == 1
    assert some.targets is None
    assert torch.equal(some.attacked, found.attacked[[3, 5]])
    assert found.take(found.successful).counts["counted"] == 2


def test_broken_images_are_counted() -> None:
    assert make(broken=torch.tensor([False] * 5 + [True])).counts["broken"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attacked": torch.rand(5, 1, 4, 4)}, r"\(6, 1, 4, 4\) are clean and \(5, 1, 4, 4\)"),
        ({"after": torch.zeros(5)}, r"after: \(5,\) for 6 images"),
        ({"targets": torch.zeros(6, 1)}, r"targets: \(6, 1\) for 6 images"),
    ],
)
def test_lengths_must_agree(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(**changes)
