"""Build the model that a name means, and say what its input looks like.

torch, timm and torchvision are imported when a model is built, not before, so that a command
that needs no model answers at once.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fxtransport.errors import ModelNameError, UsageError
from fxtransport.names import (
    LIBRARIES,
    SUGGESTIONS,
    ModelSpec,
    Source,
    list_models,
    resolve,
    suggest,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "InputSpec",
    "ModelSpec",
    "Source",
    "build",
    "input_spec",
    "list_models",
    "resolve",
    "submodule_of",
    "suggest",
]

FRAMES = 16  # of one video


@dataclass(frozen=True)
class InputSpec:
    """The shape of one example, without the batch dimension: (3, 224, 224)."""

    shape: tuple[int, ...]
    count: int = 1
    """How many tensors of this shape the model takes."""

    def example(self) -> tuple[torch.Tensor, ...]:
        """A batch of two, on the meta device."""
        import torch

        return tuple(torch.empty(2, *self.shape, device="meta") for _ in range(self.count))


def build(
    spec: ModelSpec, *, pretrained: bool = False, device: str | None = None, **options: Any
) -> nn.Module:
    """Construct a model, or its submodule; nothing is fetched unless ``pretrained``.

    ``device="meta"`` constructs it without memory. ``options`` go to the model's constructor.

    >>> build(resolve("torchvision:resnet18"), device="meta", num_classes=10).fc.out_features
    10

    Raises:
        ModelNameError: a file's factory is missing, raises, or returns something else, the
            model has no such submodule, or it is quantized.
        UsageError: weights are asked for where there are none, or cannot be fetched.
    """
    if spec.submodule:
        whole = build(replace(spec, submodule=""), pretrained=pretrained, device=device, **options)
        return submodule_of(whole, spec.submodule)
    if _is_quantized(spec):
        raise ModelNameError(
            f"{spec.canonical}: quantized models cannot be trained; compile the float model "
            f"instead: torchvision:{spec.name.removeprefix('quantized_')}"
        )
    if pretrained and (spec.library not in LIBRARIES or device == "meta"):
        raise UsageError(
            f"{spec.canonical}: pretrained weights need a model of timm or torchvision, "
            "built on a real device"
        )
    import torch

    construct = functools.partial(_construct, spec, pretrained, options)
    if device == "meta":
        return _on_meta(construct)
    with nullcontext() if device is None else torch.device(device):
        return _fetch(spec, construct) if pretrained else construct()


def submodule_of(model: nn.Module, path: str) -> nn.Module:
    """The submodule at a path.

    Raises:
        ModelNameError: there is none; the error lists some that are there.
    """
    paths = [name for name, _ in model.named_modules() if name]
    if path in paths:
        return model.get_submodule(path)
    top = [name for name in paths if "." not in name]
    close = difflib.get_close_matches(path, paths, n=3) or top[:SUGGESTIONS]
    raise ModelNameError(
        f"{type(model).__name__} has no submodule {path!r}: did you mean {', '.join(close)}?"
    )


def input_spec(
    model: nn.Module, spec: ModelSpec, size: tuple[int, ...] | None = None, **options: Any
) -> InputSpec:
    """Say what one example for a whole model looks like.

    ``size`` is the shape to take instead of the model's own, ``options`` are those that it
    was built with.

    >>> spec = resolve("torchvision:inception_v3")
    >>> input_spec(build(spec, device="meta"), spec).shape
    (3, 299, 299)

    Raises:
        ModelNameError: it is not known; the error says how to give it.
    """
    if spec.library == "torchvision":
        count = 2 if _module_of(spec.name).startswith("optical_flow.") else 1
        return InputSpec(size or _torchvision_shape(model, spec.name), count)
    if size is not None:
        return InputSpec(size)
    if spec.library == "timm":
        return InputSpec(_timm_shape(model, options))
    size = getattr(model, "input_size", None)
    if not isinstance(size, tuple | list):
        raise ModelNameError(
            f"{spec.canonical}: the input's size is not known: give --input-size 3,224,224, "
            "or set the model's attribute input_size = (3, 224, 224)"
        )
    return InputSpec(tuple(size))


def _construct(spec: ModelSpec, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    if spec.library == "timm":
        return _build_timm(spec.name, pretrained, options)
    if spec.library == "torchvision":
        return _build_torchvision(spec.name, pretrained, options)
    if spec.library == "nets":
        return _build_net(spec.name, options)
    return _build_file(spec.name, options)


def _fetch(spec: ModelSpec, construct: Callable[[], nn.Module]) -> nn.Module:
    """Construct a model with weights; what hinders is a line, whichever library fetches."""
    try:
        return construct()
    except (OSError, RuntimeError, ValueError) as error:
        # no network or no such file, no such weights, a download that is damaged
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(
            f"{spec.canonical}: cannot get pretrained weights: {reason} "
            "(without --pretrained nothing is fetched)"
        ) from error


def _on_meta(construct: Callable[[], nn.Module]) -> nn.Module:
    import torch
    from torch.overrides import TorchFunctionMode

    numbers = (torch.arange, torch.linspace, torch.tensor)

    class RealNumbers(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            place = {"device": "cpu"} if func in numbers else {}
            return func(*args, **place | (kwargs or {}))

    try:
        with torch.device("meta"):
            return construct()
    except (RuntimeError, ModelNameError):
        # Some models compute widths or drop rates with small tensors while they are built, which
        # takes their numbers. A model that is broken for another reason says so again.
        with torch.device("meta"), RealNumbers():
            return construct().to("meta")


def _build_timm(name: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=pretrained, **options)


def _build_torchvision(name: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    import torchvision

    builder = torchvision.models.get_model_builder(name)
    arguments: dict[str, Any] = {"weights": "DEFAULT" if pretrained else None}
    if not pretrained and "weights_backbone" in inspect.signature(builder).parameters:
        # Segmentation and detection would fetch a backbone otherwise.
        arguments["weights_backbone"] = None
    if not pretrained and name in {"googlenet", "inception_v3"}:
        # Their default, said aloud: left unsaid, torchvision warns.
        arguments["init_weights"] = True
    model: nn.Module = builder(**arguments | options)
    return model


def _build_net(name: str, options: dict[str, Any]) -> nn.Module:
    from fxtransport import nets

    model: nn.Module = getattr(nets, name)(**options)
    return model


def _build_file(name: str, options: dict[str, Any]) -> nn.Module:
    from torch import nn

    file, _, factory = name.rpartition(":")
    path = Path(file)
    make = getattr(_import_file(path), factory, None)
    if not callable(make):
        raise ModelNameError(f"{name}: {file} has no function called {factory}")
    with _blaming(path, f"{factory} failed"):
        model = make(**options)
    if not isinstance(model, nn.Module):
        raise ModelNameError(f"{name}: {factory} returned {type(model).__name__}, not an nn.Module")
    return model


def _import_file(path: Path) -> ModuleType:
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
    with _blaming(path, "the import failed"):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _blaming(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a user's file raises into one line that names the place."""
    try:
        yield
    except Exception as error:
        raise ModelNameError(
            f"{path}:{_line(path, error)}: {what}: {type(error).__name__}: {error}"
        ) from error


def _line(path: Path, error: Exception) -> int:
    """Find the last line of the file that ran; a line that cannot be parsed never did."""
    if isinstance(error, SyntaxError) and error.lineno:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
    return next((line for line in reversed(lines) if line), 1)


def _timm_shape(model: nn.Module, options: dict[str, Any]) -> tuple[int, ...]:
    config: Any = model.pretrained_cfg
    channels, *size = config["input_size"]
    built_for = getattr(getattr(model, "patch_embed", None), "img_size", None)
    size = options.get("img_size") or built_for or size
    height, width = (size, size) if isinstance(size, int) else size
    return (options.get("in_chans", channels), height, width)


def _torchvision_shape(model: nn.Module, name: str) -> tuple[int, ...]:
    import torchvision

    crop = getattr(
        torchvision.models.get_model_weights(name).DEFAULT.transforms(), "crop_size", [224]
    )
    # A vision transformer is fixed to the size it was built for, whatever its weights would take.
    size = getattr(model, "image_size", crop[0])
    frames = (FRAMES,) if _module_of(name).startswith("video.") else ()
    return (3, *frames, size, size)


def _is_quantized(spec: ModelSpec) -> bool:
    return spec.library == "torchvision" and _module_of(spec.name).startswith("quantization.")


def _module_of(name: str) -> str:
    """Where torchvision defines a model: ``video.resnet``."""
    import torchvision

    module: str = torchvision.models.get_model_builder(name).__module__
    return module.removeprefix("torchvision.models.")
