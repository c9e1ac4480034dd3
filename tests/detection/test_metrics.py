import math

import numpy as np
import pytest
from scipy import stats

from fxtransport.detection.metrics import Metrics, interval, metrics, over_seeds
from fxtransport.errors import UsageError


def test_by_hand() -> None:
    """Clean 0, 1, 2, 3 and attacked 2.5, 4: the pairs in order are 7 of 8."""
    found = metrics([0, 1, 2, 3], [2.5, 4], threshold=2)
    assert found.auroc == pytest.approx(7 / 8)
    # attacked by falling score: 4 (1 of 1), 2.5 (2 of 3)
    assert found.aupr_out == pytest.approx((1 + 2 / 3) / 2)
    # clean by rising score: 0, 1, 2, then 3 after 2.5: 4 of 5
    assert found.aupr_in == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)
    assert found.fpr95tpr == pytest.approx(1 / 4)
    assert found.accuracy == pytest.approx(5 / 6)
    assert found.fpr == pytest.approx(1 / 4)
    assert found.tpr == 1


def test_fpr_at_95_percent_is_where_95_percent_are_found() -> None:
    """Of 20 attacked images the lowest may be missed; of 19 none."""
    attacked = np.arange(20.0)
    assert metrics([0.5, -1], attacked, 0).fpr95tpr == 0
    assert metrics([1.5, -1], attacked[1:], 0).fpr95tpr == 0.5


def test_successful_attacks_count_apart() -> None:
    found = metrics([0.0], [1, 2, 0, 0], 0.5, succeeded=[True, False, True, False])
    assert found.tpr == 0.5
    assert found.successful == 0.5
    assert metrics([0.0], [1, 2], 0.5, succeeded=[True, False]).successful == 1
    assert math.isnan(metrics([0.0], [1.0], 0.5, succeeded=[False]).successful)


def test_a_score_equal_to_the_threshold_is_not_flagged() -> None:
    assert metrics([1.0], [1.0], 1.0).tpr == 0


@pytest.mark.parametrize(
    ("clean", "attacked", "succeeded", "says"),
    [
        ([], [1.0], None, "one or more"),
        ([1.0], [], None, "one or more"),
        ([[1.0]], [1.0], None, "one or more"),
        ([1.0], [math.nan], None, "not a finite number"),
        ([math.inf], [1.0], None, "not a finite number"),
        ([1.0], [1.0], [True, True], r"succeeded is of shape \(2,\) for 1 attacked"),
    ],
)
def test_what_is_refused(
    clean: list[float], attacked: list[float], succeeded: list[bool] | None, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        metrics(clean, attacked, 0, succeeded)


def test_intervals_are_those_of_student() -> None:
    values = [0.9, 0.8, 0.85, 0.95, 0.7]
    found = interval(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.half == pytest.approx((high - low) / 2)
    assert str(found) == "84.0 ± 11.9"


def test_intervals_of_few_seeds() -> None:
    assert interval([0.5]).half == math.inf
    assert interval([0.5, math.nan, 0.5]) == interval([0.5, 0.5])
    assert interval([0.5, math.nan, 0.5]).count == 2
    assert math.isnan(interval([math.nan]).mean)


def test_every_figure_over_seeds() -> None:
    many = [metrics([0.0, 2], [1, 3], 1), metrics([0.0, 1], [2, 3], 1)]
    found = over_seeds(many)
    assert set(found) == set(Metrics.__dataclass_fields__)
    assert found["auroc"].mean == pytest.approx((0.75 + 1) / 2)
    with pytest.raises(UsageError, match="no figures"):
        over_seeds([])
