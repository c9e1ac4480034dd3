"""Say where in the user's code a forward pass failed: module path, file, line."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.utils._python_dispatch import _disable_current_modes

from fxtransport.copies import copy_model
from fxtransport.errors import FxTransportError, TraceError, first_line
from fxtransport.example import Example
from fxtransport.tracing.constants import DataDependentError

_TORCH = f"{Path(torch.__file__).parent}{os.sep}"
"""With a separator at the end: torchvision lies beside torch."""
_OWN_MODELS = "fxtransport.nets."


class LocateErrors:
    """A context in which what the model's code raises becomes a TraceError that says where.

    Args:
        model: The user's model, to name the class of the module that failed.
        failed_path: The path of the innermost module that failed, None if unknown.
        advice: From the error to what to do about it.
    """

    def __init__(
        self,
        model: nn.Module,
        failed_path: Callable[[], str | None],
        advice: Callable[[Exception], str],
    ) -> None:
        self.model = model
        self.failed_path = failed_path
        self.advice = advice

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, FxTransportError):
            return
        if isinstance(error, DataDependentError | DataDependentOutputException):
            raise data_dependent(self.model, self.failed_path(), error) from error
        where = describe_module(self.model, self.failed_path())
        raise TraceError(
            f"{where} raised {type(error).__name__} at {error_location(error)}: "
            f"{first_line(error)}. {self.advice(error)}"
        ) from error


def advise_on_meta(
    model: nn.Module, example: Example, *, trained: bool = False
) -> Callable[[Exception], str]:
    """What to do about an error of a forward on the meta device, by trying it on the real one.

    Args:
        model: The user's model.
        example: What it was called with.
        trained: Whether it was called as in training, with gradients.
    """

    def advice(error: Exception) -> str:
        if "quantized::" in first_line(error):
            return (
                "Operators of quantized models do not run on the meta device: compile the model "
                "before it is quantized."
            )
        raised = _error_of(model, example, trained)
        if raised is None:
            return (
                "The model itself runs on this example; its forward must run on the meta device, "
                "too: implement it, and give each operator of your own a kernel for meta tensors."
            )
        if type(raised) is type(error) and first_line(raised) == first_line(error):
            if trained and _error_of(model, example, trained=False) is None:
                return (
                    "The model itself raises this where gradients are computed: on this device it "
                    "cannot be trained; compile it on a device on which it can."
                )
            return "The model itself raises this for an example of this shape; give another one."
        return (
            f"The model itself raises {type(raised).__name__} for an example of this shape: "
            f"{first_line(raised)}; give another one."
        )

    return advice


def advise_on_code(_: Exception) -> str:
    """What to do about an error of code that runs, but not while it is traced."""
    return (
        "The model itself runs here; its code does with a number that depends on the input what a "
        "graph cannot hold: move this code to a module without a residual addition, which keeps "
        "its own code."
    )


class _Tried:
    """A context that keeps what is raised in it."""

    error: Exception | None = None

    def __enter__(self) -> "_Tried":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self.error = error if isinstance(error, Exception) else None
        return self.error is not None


def _error_of(model: nn.Module, example: Example, trained: bool) -> Exception | None:
    """What a copy of the model raises for the example on the model's own device."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with _Tried() as tried, _disable_current_modes(), torch.set_grad_enabled(trained):
        inputs = example.map(lambda x, v: torch.zeros_like(x, device=device) if v is None else v)
        example.call(copy_model(model).train(trained), inputs)
    return tried.error


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
    """Whether a frame runs the model's code, and not torch's or this library's."""
    if not is_own_file(frame.f_code.co_filename):
        return False
    name = f"{frame.f_globals.get('__name__', '')}."
    return name.startswith(_OWN_MODELS) or not name.startswith("fxtransport.")


def is_own_file(name: str) -> bool:
    """Whether code of a file may be the model's, and not torch's or made in a run."""
    return not name.startswith((_TORCH, "<"))


def source_line(frame: FrameType | None, outermost: CodeType | None = None) -> str | None:
    """File and line of the innermost frame of the model's code; None if none runs.

    The file of an installed package is named from the package on.

    Args:
        frame: The innermost frame.
        outermost: The code of the frame that calls the model.
    """
    while frame is not None and not is_own(frame):
        if frame.f_code is outermost:
            return None
        frame = frame.f_back
    if frame is None:
        return None
    file = Path(frame.f_code.co_filename)
    package = frame.f_globals.get("__package__") or ""
    depth = package.count(".") + 2 if package and "site-packages" in file.parts else 1
    return f"{'/'.join(file.parts[-depth:])}:{frame.f_lineno}"
