"""What a model's input looks like, and what a model is given so that it takes another size."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fxtransport.errors import ModelNameError, UsageError
from fxtransport.input_size import InputSize, SizeLike
from fxtransport.names import LIBRARIES, ModelSpec, torchvision_module

if TYPE_CHECKING:
    import torch
    from torch import nn

FRAMES = 16
"""The number of frames of a video."""


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


def input_spec(
    model: nn.Module, spec: ModelSpec, size: SizeLike | InputSize | None = None, **options: Any
) -> InputSpec:
    """Say what one example for a whole model looks like.

    Args:
        model: The model.
        spec: Its name.
        size: The size to take instead of the model's own.
        options: What the model was built with.

    >>> from fxtransport.models import build, resolve
    >>> spec = resolve("torchvision:inception_v3")
    >>> input_spec(build(spec, device="meta"), spec).shape
    (3, 299, 299)

    Raises:
        ModelNameError: the size is not known; the error says how to give it.
        UsageError: the size is not enough to know every dimension.
    """
    count = 1
    if spec.library == "torchvision" and torchvision_module(spec.name).startswith("optical_flow."):
        count = 2
    if size is not None:
        asked = InputSize.parse(size)
        own = None if asked.is_shape else _own_shape(model, spec, options)
        return InputSpec(asked.shape(own), count)
    own = _own_shape(model, spec, options)
    if own is None:
        raise ModelNameError(
            f"{spec.canonical}: the input's size is not known: give input_size, such as 3,224,224, "
            "or set the model's attribute input_size = (3, 224, 224)"
        )
    return InputSpec(own, count)


def size_options(
    spec: ModelSpec, size: SizeLike | InputSize, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What a model's constructor is given so that the model takes inputs of a size.

    Convolutions take any height and width; most transformers are built for one. A model in a
    file is given nothing: its factory decides.

    Args:
        spec: The model.
        size: Of its input.
        options: What the constructor is given already; these stay as they are.

    >>> from fxtransport.names import resolve
    >>> size_options(resolve("timm:vit_tiny_patch16_224"), "1,32,32", {})
    {'img_size': 32, 'in_chans': 1}
    >>> size_options(resolve("timm:resnet18"), 32, {})
    {}

    Raises:
        UsageError: the model is for square images only.
    """
    asked = InputSize.parse(size)
    image = asked.height_and_width
    if image is None or spec.library == "file":
        return {}
    found: dict[str, Any] = {}
    if name := _size_argument(spec):
        height, width = image
        if height != width and name == "image_size":
            raise UsageError(f"{spec.canonical} takes square images, not {height}×{width}")
        found[name] = height if height == width and name != "input_size" else image
    channels = asked.sizes[0] if asked.is_shape else None
    if channels is not None and channels != _own_channels(spec):
        found["in_chans"] = channels
    return {name: value for name, value in found.items() if name not in options}


def _size_argument(spec: ModelSpec) -> str | None:
    """The argument of a constructor that is the height and width of images, if it has one."""
    if spec.library == "timm":
        import timm

        described = timm.models.get_pretrained_cfg(spec.name)
        return "img_size" if described is not None and described.fixed_input_size else None
    if spec.library == "nets":
        return "image_size" if takes_argument(spec, "image_size") else None
    return {"vision_transformer": "image_size", "maxvit": "input_size"}.get(
        torchvision_module(spec.name)
    )


def _own_channels(spec: ModelSpec) -> int | None:
    """The channels of images if the constructor takes their number; None if it does not."""
    if spec.library == "timm":
        import timm

        described = timm.models.get_pretrained_cfg(spec.name)
        return None if described is None else int(described.input_size[0])
    if spec.library == "nets" and takes_argument(spec, "in_chans"):
        return int(_net_arguments(spec)["in_chans"].default)
    return None


def takes_argument(spec: ModelSpec, argument: str) -> bool:
    """Whether a model's constructor is known to take an argument.

    >>> from fxtransport.names import resolve
    >>> takes_argument(resolve("timm:resnet18"), "num_classes")
    True
    """
    if spec.library == "nets":
        return argument in _net_arguments(spec)
    return spec.library in LIBRARIES and argument == "num_classes"


def _net_arguments(spec: ModelSpec) -> Mapping[str, inspect.Parameter]:
    from fxtransport import nets

    return inspect.signature(getattr(nets, spec.name)).parameters


def _own_shape(
    model: nn.Module, spec: ModelSpec, options: dict[str, Any]
) -> tuple[int, ...] | None:
    """The shape that a model takes by itself; None if it does not say."""
    if spec.library == "torchvision":
        return _torchvision_shape(model, spec.name, options)
    if spec.library == "timm":
        return _timm_shape(model, options)
    size = getattr(model, "input_size", None)
    return tuple(size) if isinstance(size, tuple | list) else None


def _timm_shape(model: nn.Module, options: dict[str, Any]) -> tuple[int, ...]:
    config: Any = model.pretrained_cfg
    channels, *size = config["input_size"]
    built_for = getattr(getattr(model, "patch_embed", None), "img_size", None)
    size = options.get("img_size") or built_for or size
    height, width = (size, size) if isinstance(size, int) else size
    return (options.get("in_chans", channels), height, width)


def _torchvision_shape(model: nn.Module, name: str, options: dict[str, Any]) -> tuple[int, ...]:
    import torchvision

    crop = getattr(
        torchvision.models.get_model_weights(name).DEFAULT.transforms(), "crop_size", [224]
    )
    # A vision transformer takes only the size that it was built for, whatever its weights want.
    size = getattr(model, "image_size", crop[0])
    height, width = options.get("input_size", (size, size))
    frames = (FRAMES,) if torchvision_module(name).startswith("video.") else ()
    return (3, *frames, height, width)
