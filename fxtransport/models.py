"""Build the model that a name means, and say what its input looks like.

torch, timm and torchvision are imported when a model is built, not before, so that a command
that needs no model answers at once.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fxtransport.errors import ModelNameError, UsageError
from fxtransport.factories import build_from_file
from fxtransport.inputs import InputSpec, input_spec, size_options, takes_argument
from fxtransport.names import (
    LIBRARIES,
    SUGGESTIONS,
    ModelSpec,
    Source,
    list_models,
    resolve,
    suggest,
    torchvision_module,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "InputSpec",
    "ModelSpec",
    "Source",
    "build",
    "input_spec",
    "list_models",
    "resolve",
    "size_options",
    "submodule_of",
    "suggest",
    "takes_argument",
]


def build(
    spec: ModelSpec, *, pretrained: bool = False, device: str | None = None, **options: Any
) -> nn.Module:
    """Construct a model, or its submodule. Nothing is fetched unless ``pretrained`` is true.

    ``device="meta"`` allocates no memory. ``options`` are passed to the model's constructor.

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


def _construct(spec: ModelSpec, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    if spec.library == "timm":
        return _build_timm(spec.name, pretrained, options)
    if spec.library == "torchvision":
        return _build_torchvision(spec.name, pretrained, options)
    if spec.library == "nets":
        return _build_net(spec.name, options)
    return build_from_file(spec.name, options)


def _fetch(spec: ModelSpec, construct: Callable[[], nn.Module]) -> nn.Module:
    """Construct a model with pretrained weights; what goes wrong becomes one line."""
    try:
        return construct()
    except (OSError, RuntimeError, ValueError) as error:
        # no network, no such file, no such weights, or a damaged download
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(
            f"{spec.canonical}: cannot get pretrained weights: {reason} "
            "(without pretrained=True nothing is fetched)"
        ) from error


def _on_meta(construct: Callable[[], nn.Module]) -> nn.Module:
    import torch
    from torch.overrides import TorchFunctionMode

    numbers = (torch.arange, torch.linspace, torch.tensor)

    class RealNumbers(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            device = {"device": "cpu"} if func in numbers else {}
            return func(*args, **device | (kwargs or {}))

    try:
        with torch.device("meta"):
            return construct()
    except (RuntimeError, ModelNameError):
        # Some models compute widths or drop rates with small tensors in their constructor and
        # need their values. A model that fails for another reason fails again.
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
        # Otherwise segmentation and detection models fetch a backbone.
        arguments["weights_backbone"] = None
    if not pretrained and name in {"googlenet", "inception_v3"}:
        # Their default, made explicit: otherwise torchvision warns.
        arguments["init_weights"] = True
    model: nn.Module = builder(**arguments | options)
    return model


def _build_net(name: str, options: dict[str, Any]) -> nn.Module:
    from fxtransport import nets

    model: nn.Module = getattr(nets, name)(**options)
    return model


def _is_quantized(spec: ModelSpec) -> bool:
    return spec.library == "torchvision" and torchvision_module(spec.name).startswith(
        "quantization."
    )
