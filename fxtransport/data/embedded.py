"""The sets that need no download: handwritten digits, and points in the plane.

They come with scikit-learn, which is imported when a set is loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.nn import functional as F

from fxtransport.data.holdout import HoldOut, SplitSamples
from fxtransport.data.sets import ImageSet
from fxtransport.data.streams import Batch, TensorSamples
from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed

DIGITS = tuple("0123456789")
DIGIT_SIZE = (1, 8, 8)
DIGIT_LEVELS = 16
"""Pixels are 0 to 16."""


@dataclass(frozen=True)
class ResizedSamples:
    """Grayscale images that are resized bilinearly when they are fetched.

    Args:
        samples: N×1×H×W, and their classes.
        size: (C, H, W) of the result. The single channel is repeated.
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


def load_digits(hold_out: HoldOut, input_size: tuple[int, ...] | None = None) -> SplitSamples:
    """1797 handwritten digits of 8×8 pixels (UCI, from scikit-learn), N×C×H×W.

    They are normalized by the mean and the standard deviation of all pixels of the training
    split, then resized bilinearly. The single channel is repeated.

    Args:
        hold_out: How the digits are split.
        input_size: (C, H, W) of the result; (1, 8, 8) if None.

    Raises:
        UsageError: ``input_size`` is not the size of an image.
    """
    from sklearn import datasets

    size = input_size or DIGIT_SIZE
    if len(size) != 3:
        raise UsageError(f"digits are images: input_size is (C, H, W), not {size}")
    loaded = datasets.load_digits()
    images = torch.from_numpy(loaded.images).float().unsqueeze(1)
    classes = torch.from_numpy(loaded.target).long()
    indices = hold_out.split(classes.tolist())
    std, mean = torch.std_mean(images[indices[0]], correction=0)
    train, validation, test = (
        ResizedSamples(TensorSamples((images[own] - mean) / std, classes[own]), size)
        for own in indices
    )
    return SplitSamples(
        train, validation if len(validation) else None, test, DIGITS, size, in_memory=True
    )


def digit_images(hold_out: HoldOut) -> tuple[ImageSet, dict[str, Any]]:
    """The digits as grayscale images for timm's augmentation, and options of the transform.

    Pixels are scaled to 0 to 255. As in :func:`load_digits`, the mean and the standard
    deviation are those of the training split.
    """
    from sklearn import datasets

    loaded = datasets.load_digits()
    pixels = (loaded.images * (255 / DIGIT_LEVELS)).round().astype("uint8")
    classes = loaded.target.tolist()
    train, _, _ = hold_out.split(classes)
    images = [(Image.fromarray(gray), target) for gray, target in zip(pixels, classes, strict=True)]
    options = {
        "mean": (float(pixels[train].mean()) / 255,),
        "std": (float(pixels[train].std()) / 255,),
        "interpolation": "bilinear",
    }
    return ImageSet(images, None, None, DIGITS, DIGIT_SIZE), options


def load_circles(
    hold_out: HoldOut, *, points: int = 1000, noise: float = 0.05, factor: float = 0.3
) -> SplitSamples:
    """Two concentric circles in the plane, N×2 (THESIS 3.2.2, ``sklearn.datasets.make_circles``).

    THESIS has 1000 points, a fifth of them for the test; noise and factor are those of its
    authors' program.

    Args:
        hold_out: How the points are split; its seed also draws them.
        points: How many there are on both circles together.
        noise: The standard deviation of Gaussian noise on each coordinate.
        factor: The radius of the inner circle; that of the outer one is 1.
    """
    from sklearn import datasets

    seed = derived_seed(hold_out.seed) % 2**32
    drawn, classes = datasets.make_circles(points, noise=noise, factor=factor, random_state=seed)
    return _split_points(hold_out, drawn, classes, ("outer", "inner"))


def load_moons(hold_out: HoldOut, *, points: int = 1000, noise: float = 0.05) -> SplitSamples:
    """Two interleaved half circles, N×2 (THESIS F.5.2, ``sklearn.datasets.make_moons``).

    Args:
        hold_out: How the points are split; its seed also draws them.
        points: How many there are on both half circles together.
        noise: The standard deviation of Gaussian noise on each coordinate.
    """
    from sklearn import datasets

    seed = derived_seed(hold_out.seed) % 2**32
    drawn, classes = datasets.make_moons(points, noise=noise, random_state=seed)
    return _split_points(hold_out, drawn, classes, ("upper", "lower"))


def _split_points(
    hold_out: HoldOut, points: Any, classes: Any, class_names: tuple[str, ...]
) -> SplitSamples:
    inputs, targets = torch.from_numpy(points).float(), torch.from_numpy(classes).long()
    train, validation, test = (
        TensorSamples(inputs[own], targets[own]) for own in hold_out.split(targets.tolist())
    )
    return SplitSamples(
        train, validation if len(validation) else None, test, class_names, (2,), in_memory=True
    )
