"""Models that are made by a function, or a class, in a Python file of the user's."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fxtransport.errors import ModelNameError

if TYPE_CHECKING:
    from torch import nn


def build_from_file(name: str, options: dict[str, Any]) -> nn.Module:
    """Import a file, and return what its factory makes.

    Args:
        name: ``path/to/file.py:factory``.
        options: What the factory is given.

    Raises:
        ModelNameError: the file or the factory is missing, raises, or returns something else.
    """
    from torch import nn

    file, _, factory = name.rpartition(":")
    path = Path(file)
    make = getattr(import_file(path), factory, None)
    if not callable(make):
        raise ModelNameError(f"{name}: {file} has no function called {factory}")
    with _errors_of(path, f"{factory} failed"):
        model = make(**options)
    if not isinstance(model, nn.Module):
        raise ModelNameError(f"{name}: {factory} returned {type(model).__name__}, not an nn.Module")
    return model


def import_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its own.

    Raises:
        ModelNameError: there is no such file, or it raises.
    """
    if not path.is_file():
        raise ModelNameError(f"{path}: there is no such file")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"fxtransport_model_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelNameError(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look a class's module up by its name.
    sys.modules[name] = module
    with _errors_of(path, "the import failed"):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _errors_of(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a user's file raises into one line that names the file and line."""
    try:
        yield
    except Exception as error:
        raise ModelNameError(
            f"{path}:{_line(path, error)}: {what}: {type(error).__name__}: {error}"
        ) from error


def _line(path: Path, error: Exception) -> int:
    """The last line of the file that ran, or the line that cannot be parsed."""
    if isinstance(error, SyntaxError) and error.lineno:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
    return next((line for line in reversed(lines) if line), 1)
