"""Say where in the user's code a forward pass failed: module path, file, line."""

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from fxtransport.errors import MODEL_ERRORS, FxTransportError, TraceError, first_line
from fxtransport.tracing.recorder import DataDependentError

_ADVICE = {
    False: "The forward pass must run on an input of the example's shape; check the input size.",
    True: "The forward pass must run on the meta device: implement it, and give each operator of "
    "your own a kernel for meta tensors.",
}
"""What to do about an error, by whether it is a NotImplementedError."""

_LIBRARIES = tuple(f"{Path(file).parent}{os.sep}" for file in (torch.__file__, __file__))
"""With a separator at the end: torchvision lies beside torch."""


@contextmanager
def locate_errors(model: nn.Module, failed_path: Callable[[], str | None]) -> Iterator[None]:
    """Turn what the model's code raises into a TraceError that says where.

    Args:
        model: The user's model, to name the class of the module that failed.
        failed_path: The path of the innermost module that failed, None if unknown.
    """
    try:
        yield
    except FxTransportError:
        raise
    except (DataDependentError, DataDependentOutputException) as error:
        raise data_dependent(model, failed_path(), error) from error
    except MODEL_ERRORS as error:
        where = describe_module(model, failed_path())
        raise TraceError(
            f"{where} raised {type(error).__name__} at {error_location(error)}: "
            f"{first_line(error)}. "
            f"{_ADVICE[isinstance(error, NotImplementedError)]}"
        ) from error


def data_dependent(model: nn.Module, path: str | None, error: Exception) -> TraceError:
    """The error for a forward that looks at the values of tensors."""
    return TraceError(
        f"{describe_module(model, path)} has data-dependent control flow at "
        f"{error_location(error)}: {first_line(error)}. A program is one graph for every input: "
        "compute both branches and choose with torch.where, or decide on shapes or flags instead."
    )


def describe_module(model: nn.Module, path: str | None) -> str:
    """A module in words: ``blocks.0 (Block)``."""
    if path is None:
        return type(model).__name__
    return f"{path or 'the model'} ({type(model.get_submodule(path)).__name__})"


def error_location(error: BaseException) -> str:
    """File and line of the innermost frame outside torch and this compiler."""
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [(frame, line) for frame, line in frames if is_own(frame)]
    frame, line = (own or frames)[-1]
    return f"{frame.f_code.co_filename}:{line}"


def is_own(frame: FrameType) -> bool:
    """Whether a frame runs the model's code, and not torch's or this compiler's."""
    return not frame.f_code.co_filename.startswith((*_LIBRARIES, "<"))


def source_line(frame: FrameType | None) -> str:
    """File and line of the innermost frame of the model's code.

    The file of an installed package is named from the package on.
    """
    while frame is not None and not is_own(frame):
        frame = frame.f_back
    assert frame is not None, "the model's code is among the callers"
    file = Path(frame.f_code.co_filename)
    package = frame.f_globals.get("__package__") or ""
    depth = package.count(".") + 2 if package and "site-packages" in file.parts else 1
    return f"{'/'.join(file.parts[-depth:])}:{frame.f_lineno}"
