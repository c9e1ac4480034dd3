from dataclasses import replace

import numpy as np
import pytest

from fxtransport.detection.checks import State
from fxtransport.detection.conditional import ConditionalForest
from fxtransport.detection.trees import Forest
from fxtransport.errors import UsageError
from tests.detection.forests import FEATURES, fitted, rows


def forests() -> ConditionalForest:
    """A general forest, and one of class 3."""
    return ConditionalForest(
        Forest.of(fitted(n_estimators=5)), {3: Forest.of(fitted(max_depth=2))}, "either"
    )


def test_the_forest_of_the_predicted_class_scores() -> None:
    made, some = forests(), rows(60)[0]
    classes = np.arange(60) % 5
    general, own = made.general.predict(some), made.by_class[3].predict(some)
    by_class = replace(made, rule="class")
    assert (by_class.predict(some, classes) == np.where(classes == 3, own, general)).all()
    expected = np.where(classes == 3, np.maximum(own, general), general)
    assert (made.predict(some, classes) == expected).all()
    assert (replace(made, rule="general").predict(some, None) == general).all()


def test_a_state_makes_the_same_forests() -> None:
    made, some = forests(), rows(60)[0]
    again = ConditionalForest.from_state(State(*made.state()))
    classes = np.arange(60) % 5
    assert (again.predict(some, classes) == made.predict(some, classes)).all()
    assert again.rule == "either"


def test_a_state_with_more_or_less_is_refused() -> None:
    arrays, settings = forests().state()
    with pytest.raises(UsageError, match="'extra' is not of such a detector"):
        ConditionalForest.from_state(
            State({**arrays, "general.extra": arrays["general.left"]}, settings)
        )
    with pytest.raises(UsageError, match="the array 'left' is missing"):
        ConditionalForest.from_state(
            State({n: a for n, a in arrays.items() if n != "class.3.left"}, settings)
        )
    with pytest.raises(UsageError, match="'rule' is 'both'"):
        ConditionalForest.from_state(State(arrays, {**settings, "rule": "both"}))


def test_classes_are_needed_by_their_forests() -> None:
    with pytest.raises(UsageError, match="give the predicted classes"):
        forests().predict(rows(3)[0], None)


def test_forests_read_the_same_features() -> None:
    made = forests()
    with pytest.raises(UsageError, match=f"class 4 reads {FEATURES + 1} features"):
        ConditionalForest(made.general, {4: replace(made.general, columns=FEATURES + 1)})
