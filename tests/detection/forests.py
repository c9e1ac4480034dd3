"""Small forests of scikit-learn on made-up rows, fitted once."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

FEATURES = 12


def rows(count: int, features: int = FEATURES) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Normal rows, and labels that follow from some of their columns."""
    generator = np.random.default_rng(0)
    data = generator.normal(size=(count, features)).astype(np.float32)
    noise = generator.normal(size=count)
    return data, (data[:, :4].sum(1) + noise > 0).astype(np.int64)


def fitted(**options: Any) -> RandomForestClassifier:
    """A forest on 1000 rows."""
    return _fitted(tuple(options.items()))


@cache
def _fitted(options: tuple[tuple[str, Any], ...]) -> RandomForestClassifier:
    made = RandomForestClassifier(**{"n_estimators": 100, "random_state": 0, **dict(options)})
    return made.fit(*rows(1000))
