"""Where a model says its logits are, among all that it returns."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

LOGITS = ("logits", "out")
"""The names under which models return their logits among other things."""


def find_logits(returned: Any, is_value: Callable[[Any], bool]) -> Any:
    """The logits among what a model returns.

    They are the value itself where it is one; else the key, field or attribute ``logits`` or
    ``out``, as of the outputs of transformers and of torchvision's segmentation models; else the
    only value of a container that holds one.

    Args:
        returned: What the model returns.
        is_value: Whether something is a value: a tensor, or a node of a graph.

    Returns:
        None where there are none, or it is not clear which they are.

    >>> find_logits({"loss": None, "logits": 1.5, "hidden": 2.5}, lambda x: isinstance(x, float))
    1.5
    """
    if is_value(returned):
        return returned
    held = _held(returned)
    for name in LOGITS:
        if is_value(held.get(name)):
            return held[name]
    values = [value for value in held.values() if is_value(value)]
    return values[0] if len(values) == 1 else None


def _held(returned: Any) -> dict[Any, Any]:
    """What a container holds, by key, name or position."""
    if isinstance(returned, Mapping):
        return dict(returned)
    if is_dataclass(returned) and not isinstance(returned, type):
        return {f.name: getattr(returned, f.name) for f in fields(returned)}
    if isinstance(returned, tuple) and hasattr(returned, "_fields"):
        return dict(zip(returned._fields, returned, strict=True))
    if isinstance(returned, tuple | list):
        return dict(enumerate(returned))
    return {name: getattr(returned, name, None) for name in LOGITS}
