"""Images that come with installed packages and need no download, all of one size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from fxtransport.data.digits import read_digits
from fxtransport.data.fingerprints import combined
from fxtransport.data.holdout import HoldOut, SplitSamples
from fxtransport.data.mnist import read_mnist
from fxtransport.data.patches import read_patches
from fxtransport.data.pixels import Pixels
from fxtransport.data.sets import ImageSet
from fxtransport.data.streams import Batch, TensorSamples
from fxtransport.errors import UsageError

EMBEDDED: dict[str, Callable[..., Pixels]] = {
    "digits": read_digits,
    "mnist5k": read_mnist,
    "patches": read_patches,
}
"""How the images of each set are read."""
RESIZED = {"interpolation": "bilinear"}
"""How images are resized, as timm names it."""
EMBEDDED_OPTIONS = {"digits": (), "mnist5k": (), "patches": ("tile",)}


@dataclass(frozen=True)
class ResizedSamples:
    """Images that are resized bilinearly when they are fetched.

    Args:
        samples: N×C×H×W, and their classes.
        size: (C, H, W) of the result. A single channel is repeated.
    """

    samples: TensorSamples
    size: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, indices: Sequence[int]) -> Batch:
        """B×C×H×W, and the classes."""
        images, targets = self.samples.batch(indices)
        channels, *size = self.size
        if images.shape[2:] != torch.Size(size):
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return images.expand(-1, channels, -1, -1).contiguous(), targets

    def fingerprint(self) -> str | None:
        """A hash of the images before they are resized, and of the size."""
        return combined(self.samples.fingerprint(), self.size)

    def labels(self) -> torch.Tensor:
        """The classes."""
        return self.samples.labels()


def load_embedded(
    name: str, hold_out: HoldOut, input_size: tuple[int, ...] | None = None, **options: Any
) -> SplitSamples:
    """The images of an embedded set as tensors, N×C×H×W.

    Each channel is normalized by the mean and the standard deviation of all its pixels in the
    training split; then images are resized bilinearly. A single channel is repeated; colors
    become gray where a single channel is asked for.

    Args:
        name: Which set, of :data:`EMBEDDED`.
        hold_out: How the images are split.
        input_size: (C, H, W) of the result; the images' own if None.
        options: Options of the set.

    Raises:
        UsageError: ``input_size`` is not the size of an image, or the set cannot be read.
    """
    pixels = EMBEDDED[name](**options)
    size = input_size or pixels.size
    if len(size) != 3:
        raise UsageError(f"{name} are images: input_size is (C, H, W), not {size}")
    pixels = pixels.reduced(size[0])
    images = torch.from_numpy(pixels.levels).movedim(3, 1).float().contiguous()
    classes = torch.from_numpy(pixels.classes)
    indices = hold_out.split(pixels.classes.tolist(), pixels.class_names)
    std, mean = _channel_moments(images[indices[0]])
    train, validation, test = (
        ResizedSamples(TensorSamples((images[own] - mean) / std, classes[own]), size)
        for own in indices
    )
    return SplitSamples(
        train,
        validation if len(validation) else None,
        test,
        pixels.class_names,
        size,
        in_memory=True,
        transform={
            "mean": _repeated(mean / pixels.highest, size[0]),
            "std": _repeated(std / pixels.highest, size[0]),
            **RESIZED,
            # height and width are resized each by itself
            "crop_mode": "squash",
        },
        sources=hold_out.whole_set(pixels.classes.tolist(), indices),
    )


def embedded_images(
    name: str, hold_out: HoldOut, channels: int | None = None, **options: Any
) -> tuple[ImageSet, dict[str, Any]]:
    """The images of an embedded set for timm's augmentation, and options of the transform.

    Pixels are scaled to 0 to 255. As in :func:`load_embedded`, the mean and the standard
    deviation are those of the training split.

    Args:
        name: Which set, of :data:`EMBEDDED`.
        hold_out: How the images are split.
        channels: How many channels the model takes; the images' own if None.
        options: Options of the set.

    Raises:
        UsageError: the set cannot be read.
    """
    pixels = EMBEDDED[name](**options)
    pixels = pixels.reduced(channels or pixels.size[0])
    levels = (pixels.levels * (255 / pixels.highest)).round().astype("uint8")
    classes = pixels.classes.tolist()
    train, _, _ = hold_out.split(classes, pixels.class_names)
    planes = [levels[train][..., channel] for channel in range(levels.shape[3])]
    transform = {
        "mean": tuple(float(plane.mean()) / 255 for plane in planes),
        "std": tuple(float(plane.std()) / 255 for plane in planes),
        **RESIZED,
    }
    images = [(_image(each), target) for each, target in zip(levels, classes, strict=True)]
    return ImageSet(images, None, None, pixels.class_names, pixels.size), transform


def _channel_moments(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The standard deviation and the mean of each channel, C×1×1."""
    moments = [torch.std_mean(channel, correction=0) for channel in images.unbind(1)]
    std, mean = (torch.stack(values).reshape(-1, 1, 1) for values in zip(*moments, strict=True))
    return std, mean


def _repeated(moments: torch.Tensor, channels: int) -> tuple[float, ...]:
    """One number for each channel of the input."""
    values = tuple(moments.flatten().tolist())
    return values * channels if len(values) == 1 else values


def _image(levels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(levels if levels.shape[2] > 1 else levels[..., 0])
