import numpy as np
import pytest

from fxtransport.detection.observations import Observations
from fxtransport.detection.predicted import classes_of, classes_of_both, joined
from fxtransport.errors import UsageError

LOGITS = Observations({"logits": np.eye(3)})
NONE = Observations({"transport": np.zeros((2, 4))})


def test_classes_are_given_or_those_of_the_logits() -> None:
    found = classes_of(LOGITS, None)
    assert found is not None
    assert found.tolist() == [0, 1, 2]
    assert classes_of(NONE, None) is None
    given = classes_of(NONE, np.array([7, 8], np.uint8))  # type: ignore[arg-type]
    assert given is not None
    assert given.dtype == np.int64


def test_classes_of_clean_and_attacked_images() -> None:
    own, others = classes_of_both(NONE, LOGITS, np.arange(5))
    assert own is not None
    assert others is not None
    assert (own.tolist(), others.tolist()) == ([0, 1], [2, 3, 4])
    for some in [(NONE, LOGITS), (LOGITS, NONE), (NONE, None)]:
        assert [each is None for each in classes_of_both(*some, None)] == [True, True]
    own, others = classes_of_both(LOGITS, None, None)
    assert own is not None
    assert others is None


def test_classes_are_joined() -> None:
    assert joined(None, None) is None
    both = joined(np.arange(2), np.arange(2))
    assert both is not None
    assert both.tolist() == [0, 1, 0, 1]


def test_as_many_classes_as_images() -> None:
    with pytest.raises(UsageError, match="4 predicted classes for 5 images"):
        classes_of_both(NONE, LOGITS, np.arange(4))
    with pytest.raises(UsageError, match="one for each of 2 images"):
        classes_of(NONE, np.array([0.0, 1.0]))  # type: ignore[arg-type]
