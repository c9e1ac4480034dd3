"""Copies of a user's model, also of what Python's ``copy`` does not copy."""

import copy
import io
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import nn

from fxtransport.errors import MODEL_ERRORS, TraceError
from fxtransport.module_copies import copy_module

_DEPTH = 6


def copy_model(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy of a model, which shares what cannot be copied and holds nothing of the model.

    Tensors with a history, as code leaves them on a module, are copied without it. Generators of
    torch are copied with their state. Locks are made new; modules of Python and open files are
    the same.

    Args:
        model: The model.
        memo: Of :func:`copy.deepcopy`: what is copied already, by identity.

    Raises:
        TraceError: something that it holds cannot be copied. It is named.
    """
    failed = _Failed()
    with failed, copied_wholly():
        return copy_module(model, dict(memo or {}))
    path = _culprit(model, memo or {})
    raise TraceError(
        f"{path} cannot be copied ({type(failed.error).__name__}: {failed.error}), and a program "
        "is made and verified on copies of the model; give its class a __deepcopy__ method, or "
        "make it outside of the model"
    ) from failed.error


class _Failed:
    """A context that keeps what a copy raises."""

    error: Exception | None = None

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, MODEL_ERRORS):
            self.error = error
            return True
        return False


def _copied(value: Any, memo: dict[int, Any] | None) -> Any:
    with copied_wholly():
        return copy.deepcopy(value, dict(memo or {}))


@contextmanager
def copied_wholly() -> Iterator[None]:
    """While active, ``copy.deepcopy`` copies what :func:`copy_model` does."""
    table: MutableMapping[type, Callable[[Any, Any], Any]] = vars(copy)["_deepcopy_dispatch"]
    with mock.patch.dict(table, _COPIERS):
        yield


def _tensor(tensor: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
    if tensor.is_leaf:
        return tensor.__deepcopy__(memo)  # type: ignore[no-any-return]
    copied = tensor.detach().clone(memory_format=torch.preserve_format)
    return copied.requires_grad_(tensor.requires_grad)


def _generator(generator: torch.Generator, _: object) -> torch.Generator:
    return generator.clone_state()


def _same(value: Any, _: object) -> Any:
    return value


def _new(make: Callable[[], Any]) -> Callable[[Any, Any], Any]:
    return lambda *_: make()


_COPIERS: dict[type, Callable[[Any, Any], Any]] = {
    torch.Tensor: _tensor,
    torch.Generator: _generator,
    ModuleType: _same,
    type(threading.Lock()): _new(threading.Lock),
    type(threading.RLock()): _new(threading.RLock),
    **dict.fromkeys((io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.FileIO), _same),
}
"""How each class that ``copy`` refuses is copied."""


def _culprit(model: nn.Module, memo: dict[int, Any]) -> str:
    """The innermost thing that cannot be copied, by its path from the model."""
    for path, module in reversed(list(model.named_modules())):
        for name, value in vars(module).items():
            if name != "_modules" and not _is_copied(value, memo):
                kind = type(module).__name__
                inner, place = _innermost(value, memo, 0)
                return f"self.{name}{place} of {path or 'the model'} ({kind}), a {inner},"
    return f"the model ({type(model).__name__})"


def _is_copied(value: Any, memo: dict[int, Any]) -> bool:
    failed = _Failed()
    with failed:
        _copied(value, memo)
    return failed.error is None


def _innermost(value: Any, memo: dict[int, Any], depth: int) -> tuple[str, str]:
    for place, inner in _inside(value) if depth < _DEPTH else ():
        if not _is_copied(inner, memo):
            kind, further = _innermost(inner, memo, depth + 1)
            return kind, f"{place}{further}"
    return type(value).__name__, ""


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", inner) for key, inner in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{i}]", inner) for i, inner in enumerate(value))
    elif hasattr(value, "__dict__"):
        yield from ((f".{name}", inner) for name, inner in vars(value).items())
