from pathlib import Path

import numpy as np
import pytest

from fxtransport.detection.quantile import QuantileRule
from fxtransport.errors import UsageError
from tests.detection.detectors import fitted, parts


def features(costs: np.ndarray) -> np.ndarray:
    """Two blocks whose costs sum to the given ones."""
    zeros = np.zeros_like(costs)
    return np.stack([costs / 4, zeros - 1, 3 * costs / 4, zeros + 1], 1).astype(np.float32)


def test_by_hand() -> None:
    """Costs 0, 1, …, 100: the quantiles are 2, 50 and 98."""
    rule = QuantileRule().fit(features(np.arange(101.0)), held_out=0)
    assert rule.quantiles == pytest.approx([2, 50, 98])
    found = rule.score(features(np.array([0.0, 2, 50, 98, 146, 1000])))
    assert found == pytest.approx([2 / 48, 0, -1, 0, 1, 902 / 48])
    flags = rule.predict(features(np.array([1.0, 3, 97, 99])), threshold=rule.own_threshold)
    assert flags.tolist() == [True, False, False, True]


def test_further_directions_are_no_cost() -> None:
    """With two directions there are 2M columns and then M cosines."""
    costs = np.arange(101.0)
    more = np.concatenate([features(costs), np.full((101, 2), 7, np.float32)], 1)
    rule = QuantileRule(directions=2).fit(more, held_out=0)
    assert rule.quantiles == pytest.approx([2, 50, 98])
    with pytest.raises(UsageError, match=r"6 transport features .* 3 directions"):
        QuantileRule(directions=3).fit(more)


def test_the_rule_rejects_about_four_percent_of_clean_digits() -> None:
    rule, other = fitted(QuantileRule), parts()[1]
    rejected = rule.predict(other.clean, threshold=0).mean()
    assert 0.01 < rejected < 0.09
    assert rule.predict(other.attacked, threshold=0).mean() > 2 * rejected


def test_a_saved_rule_is_the_same(tmp_path: Path) -> None:
    rule, other = QuantileRule(0.1, 0.9), parts()[1]
    rule.fit(parts()[0].clean).save(tmp_path)
    again = QuantileRule.load(tmp_path)
    assert (again.low, again.high, again.directions) == (0.1, 0.9, 1)
    assert (again.score(other.clean) == rule.score(other.clean)).all()


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match="quantiles are below and above"):
        QuantileRule(0.6, 0.9)
    with pytest.raises(UsageError, match="one direction or more"):
        QuantileRule(directions=0)
    with pytest.raises(UsageError, match=r"need 50 clean images .* there are 40"):
        QuantileRule().fit(features(np.arange(50.0)))
    with pytest.raises(UsageError, match="they must differ"):
        QuantileRule().fit(features(np.ones(100)))
    with pytest.raises(UsageError, match="quantile was not fitted"):
        QuantileRule().score(features(np.ones(1)))
