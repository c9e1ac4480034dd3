"""Casts of weights that autocast keeps from one operation to the next.

A model that enters ``torch.autocast`` casts each weight once, and its gradient is summed up in
the lower precision. A program enters it again for each call inside, so it holds on to the casts
from the first call to the last where a weight is cast more than once.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch


class _Open(threading.local):
    """How many spans are open in this thread, and how many were when the function began."""

    count = 0
    before = 0


_open = _Open()


def keep_casts() -> None:
    """From here on, autocast keeps the casts of weights.

    Where a compiler follows, it does nothing: such a graph has casts of its own.
    """
    if torch.compiler.is_compiling():
        return
    _open.count += 1
    torch.autocast_increment_nesting()


def drop_casts() -> None:
    """Autocast forgets the casts of weights, unless the caller is in a context of it.

    Where a part begins inside a context of the model, there are none.
    """
    if torch.compiler.is_compiling():
        return
    if _open.count > _open.before:
        _open.count -= 1
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()


@contextmanager
def _own_casts() -> Iterator[None]:
    """Drop at the end the casts that are kept inside, also where it raises."""
    before, _open.before = _open.before, _open.count
    try:
        yield
    finally:
        while _open.count > _open.before:
            drop_casts()
        _open.before = before


def with_own_casts(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function after which no casts are kept."""

    @wraps(function)
    def calling(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        with _own_casts():
            return function(*args, **kwargs)

    return calling
