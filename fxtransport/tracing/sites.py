"""What a tracer names nodes, and where in the code each was made."""

import inspect
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from torch import nn

Site = tuple[tuple[CodeType, int], ...]
"""Where in the code something happened: the instruction of each frame, innermost first."""


def input_names(root_fn: Callable[..., Any], count: int) -> list[str]:
    """The names of the first positional arguments of a bound forward.

    Raises:
        ValueError: the forward takes fewer.
    """
    names: list[str] = []
    for p in inspect.signature(root_fn).parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            names.extend(f"{p.name}_{i}" for i in range(count - len(names)))
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
    if len(names) < count:
        raise ValueError(f"forward takes {len(names)} inputs, and the example has {count}")
    return names[:count]


def site_of(frame: FrameType | None, outermost: CodeType) -> Site:
    """Where a frame is, up to the frame that runs the outermost code."""
    places = []
    while frame is not None and frame.f_code is not outermost:
        places.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(places)


def attribute_of(root: nn.Module, path: str) -> Any:
    """The value of a module's attribute, by its dotted path."""
    value: Any = root
    for name in path.split("."):
        value = getattr(value, name)
    return value


def node_name(owner: str, target: Any, args: tuple[Any, ...]) -> str:
    """What the node of a call is named: the path of the module that runs it, and the operation."""
    name = target if isinstance(target, str) else getattr(target, "__name__", "call")
    if target is getattr:
        name = str(args[1])
    return f"{owner}.{name.strip('_')}".strip(".").replace(".", "_")
