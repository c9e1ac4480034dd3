"""Code that switches gradients on while the model runs on the meta device.

Operators may be taken apart otherwise where gradients are computed, and every run of a model must
record the same operations. So the switch does nothing, unless the model itself differentiates.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch

_set_grad_enabled = torch._C._set_grad_enabled
"""Itself: while traced code runs, another function stands in its place."""
AMBIENT = object()
"""What a context of torch keeps where gradients are as they are where the program runs."""
_TRANSFORMS = "torch._functorch."
_DEPTH = 4
"""How many frames away: a context of torch, and what enters it."""


def switch_gradients(mode: bool) -> None:
    """Switch gradients on or off, unseen by modes of torch."""
    with torch._C.DisableTorchFunction():
        _set_grad_enabled(mode)


def switch_where_differentiated(*, differentiates: bool) -> Callable[[Any], None]:
    """What stands in the place of torch's switch.

    Args:
        differentiates: Whether modules of the model compute gradients. A transform of
            ``torch.func`` always does.
    """

    def switching(mode: Any) -> None:
        if differentiates or _in_transform(sys._getframe(1)):
            switch_gradients(mode)

    return switching


def _in_transform(frame: FrameType | None) -> bool:
    """Whether a transform of ``torch.func`` is what switches, by a context of torch."""
    for _ in range(_DEPTH):
        if frame is None:
            return False
        if str(frame.f_globals.get("__name__", "")).startswith(_TRANSFORMS):
            return True
        frame = frame.f_back
    return False


def is_context(frame: FrameType) -> bool:
    """Whether a frame is of a context of torch that asks what to put back."""
    return frame.f_globals.get("__name__") == torch.autograd.grad_mode.__name__


def needs_gradients(error: BaseException | None) -> bool:
    """Whether an error says that what is differentiated has no gradient."""
    return isinstance(error, RuntimeError) and "does not require grad" in str(error)
