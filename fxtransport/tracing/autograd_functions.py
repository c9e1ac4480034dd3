"""Calls of functions of autograd whose ``apply`` was taken before the tracing began.

A module may keep ``Function.apply`` as an attribute, a global variable or an argument's default.
That is a method of C, which asks the class for its ``forward``: there, the call is seen.
"""

import opcode
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch

from fxtransport.functions import apply_function
from fxtransport.tracing.gradients import switch_gradients
from fxtransport.tracing.interface import Tracer

_FORWARD, _SETUP, _CONTEXT = _ASKED = ("forward", "setup_context", "_backward_cls")
"""What C asks for: it makes the context, then switches gradients off and calls the others."""
_NO_SETUP = torch.autograd.Function.setup_context
"""That of a function whose ``forward`` is given the context."""
_is_grad_enabled = torch.is_grad_enabled
"""Itself: while traced code runs, another function stands in its place."""


def seen_by_class(tracer: Tracer, read: Callable[..., Any]) -> Callable[[Any, str], Any]:
    """What reads an attribute of a class of functions, for which C asks.

    Args:
        tracer: The tracer.
        read: Reads an attribute.
    """
    enabled = True

    def reading(cls: Any, name: str) -> Any:
        nonlocal enabled
        found = read(cls, name)
        if tracer.evaluating or name not in _ASKED or _is_python(sys._getframe(1)):
            return found
        if name == _CONTEXT:
            enabled = _is_grad_enabled()  # from here on, C has gradients off
            return found
        if name == _SETUP:
            return found if found is _NO_SETUP else _nothing
        has_context = read(cls, _SETUP) is _NO_SETUP

        def calling(*args: Any, **kwargs: Any) -> Any:
            given = args[1:] if has_context else args
            switch_gradients(enabled)
            return tracer.create_proxy("call_function", apply_function(cls), given, kwargs)

        return calling

    return reading


def _is_python(frame: FrameType) -> bool:
    """Whether the attribute is read by name, and not by C."""
    operation = opcode.opname[frame.f_code.co_code[frame.f_lasti]]
    return operation.startswith(("LOAD_ATTR", "LOAD_METHOD"))


def _nothing(*_: Any) -> None:
    """What the context keeps is kept where the node runs."""
