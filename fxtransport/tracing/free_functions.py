"""Functions outside of modules, which a graph may call whole, as it calls closed modules.

A function that decides by shapes, such as one that resamples position embeddings unless they
fit, then decides again for every input, and needs no guard.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType, FunctionType
from typing import Any
from unittest import mock

import torch
from torch import nn

from fxtransport.tracing.error_context import is_own
from fxtransport.tracing.leaves import leaves_of
from fxtransport.tracing.value_proxy import ValueProxy

_SYMBOLIC = (ValueProxy, torch.Tensor)
MakeNode = Callable[[FunctionType, Any, Any], Any]
"""Makes a node of a call: a function, its arguments and its keyword arguments."""


@dataclass(frozen=True, eq=False)
class FreeFunction:
    """A function that is not a module's method."""

    function: FunctionType
    callers: dict[str, Any]
    """The global names of the code that calls it."""
    names: tuple[str, ...]
    """Those of them that are this function."""


def free_function(frame: FrameType | None) -> FreeFunction | None:
    """The outermost function that a frame runs in, below the innermost method of a module.

    None if there is none, or if a graph cannot call it.
    """
    found = None
    while frame is not None and not isinstance(_first_argument(frame), nn.Module):
        if is_own(frame) and frame.f_back is not None:
            found = _called_by_name(frame, frame.f_back.f_globals)
        frame = frame.f_back
    return found


def _called_by_name(frame: FrameType, callers: dict[str, Any]) -> FreeFunction | None:
    names = tuple(
        name
        for name, value in callers.items()
        if isinstance(value, FunctionType) and value.__code__ is frame.f_code
    )
    if not names or not _is_callable_by_graph(frame):
        return None
    return FreeFunction(callers[names[0]], callers, names)


@contextmanager
def record_calls(functions: Sequence[FreeFunction], make_node: MakeNode) -> Iterator[None]:
    """While active, a call of these functions from traced code is a node.

    Args:
        functions: Which ones.
        make_node: Makes the node of a call.
    """
    with ExitStack() as stack:
        for free in functions:
            call = _recording_call(free.function, make_node)
            stack.enter_context(mock.patch.dict(free.callers, dict.fromkeys(free.names, call)))
        yield


def _recording_call(function: FunctionType, make_node: MakeNode) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(leaf, _SYMBOLIC) for leaf in leaves_of((args, kwargs))):
            return make_node(function, args, kwargs)
        return function(*args, **kwargs)

    return call


def _first_argument(frame: FrameType) -> Any:
    names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
    return frame.f_locals.get(names[0]) if names else None


def _is_callable_by_graph(frame: FrameType) -> bool:
    """Whether all arguments are what a node may have."""
    count = frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount
    values = [frame.f_locals.get(name) for name in frame.f_code.co_varnames[:count]]
    plain = (*_SYMBOLIC, bool, int, float, str, type(None))
    return all(isinstance(leaf, plain) for leaf in leaves_of(values))
