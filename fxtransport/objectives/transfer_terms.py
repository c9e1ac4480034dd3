"""Regularizers of transfer by name, and how a weighted sum of them is written."""

import difflib
import math
from collections.abc import Mapping
from typing import Any

from fxtransport.errors import UsageError

PLANS = {
    "ot": "exact",
    "identity": "identity",
    "uniform": "uniform",
    "sinkhorn": "sinkhorn",
    "partial": "partial",
}
"""Regularizers that compare neurons by a transport plan, and that plan."""
ON_LAYERS = (*PLANS, "feature")
"""Regularizers that compare paired layers."""
EQUAL_WIDTHS = ("identity",)
"""Those of them that need layers of one width."""
ON_TEACHER = (*ON_LAYERS, "kd", "l2-sp")
"""Regularizers that need a teacher."""
TERMS = (*ON_TEACHER, "l2")
"""All regularizers."""
NONE = "none"


def parse_regularizer(given: Any) -> dict[str, float]:
    """A weighted sum of regularizers: each weight by its name, in the order given.

    Args:
        given: ``"ot:0.1,kd:0.5"``, ``"none"``, or a mapping from names to weights, as the table of
            a configuration file is.

    >>> parse_regularizer("ot:0.1,kd:0.5"), parse_regularizer("none")
    ({'ot': 0.1, 'kd': 0.5}, {})

    Raises:
        UsageError: it is not written like this, there is no such regularizer, or a weight is not a
            positive number.
    """
    if isinstance(given, Mapping):
        pairs = [(str(name), value) for name, value in given.items()]
    elif not isinstance(given, str) or not given.strip():
        raise UsageError(f"a regularizer is written NAME:WEIGHT, such as ot:0.1, not {given!r}")
    elif given.strip() == NONE:
        return {}
    else:
        pairs = [_pair(part) for part in given.split(",")]
    found: dict[str, float] = {}
    for name, value in pairs:
        if name not in TERMS:
            raise UsageError(_unknown(name))
        if name in found:
            raise UsageError(f"the regularizer {name} is given twice; give it one weight")
        found[name] = _weight(name, value)
    return found


def _pair(part: str) -> tuple[str, str]:
    name, colon, weight = part.strip().partition(":")
    name = name.strip()
    if name == NONE:
        raise UsageError("none stands alone: leave it out, or leave the other regularizers out")
    if name and not colon and name in TERMS:
        raise UsageError(f"the regularizer {name} has no weight: write {name}:0.1, say")
    if not name or not colon:
        raise UsageError(f"a regularizer is written NAME:WEIGHT, such as ot:0.1, not {part!r}")
    return name, weight.strip()


def _weight(name: str, value: Any) -> float:
    try:
        weight = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if math.isfinite(weight) and weight > 0:
        return weight
    raise UsageError(
        f"the weight of {name} is a positive number, not {value!r}; leave {name} out to train "
        "without it"
    )


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, TERMS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(TERMS)}"
    return f"there is no regularizer {name!r}: {hint}"
