"""The sets that need no download: handwritten digits, and points in the plane.

scikit-learn has them. It is imported when a set is loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.nn import functional as F

from fxtransport.data.cut import Cut, Parts
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
    """Grey images that are resized bilinearly when they are fetched.

    Args:
        samples: N×1×H×W, and their classes.
        size: (C, H, W) of the result. All channels are the one there is.
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


def load_digits(cut: Cut, input_size: tuple[int, ...] | None = None) -> Parts:
    """1797 handwritten digits of 8×8 pixels (UCI, from scikit-learn), N×C×H×W.

    They are normalised by the mean and the standard deviation of all pixels of the training
    split, then resized bilinearly. Channels repeat the one there is.

    Args:
        cut: Which digits are for what.
        input_size: (C, H, W) of the result; (1, 8, 8) if None.

    Raises:
        UsageError: that is no image's size.
    """
    from sklearn import datasets

    size = input_size or DIGIT_SIZE
    if len(size) != 3:
        raise UsageError(f"digits are images: a model for them takes (C, H, W), not {size}")
    found = datasets.load_digits()
    images = torch.from_numpy(found.images).float().unsqueeze(1)
    classes = torch.from_numpy(found.target).long()
    indices = cut.of_all(classes.tolist())
    std, mean = torch.std_mean(images[indices[0]], correction=0)
    train, validation, test = (
        ResizedSamples(TensorSamples((images[part] - mean) / std, classes[part]), size)
        for part in indices
    )
    return Parts(train, validation if len(validation) else None, test, DIGITS, size, in_memory=True)


def digit_images(cut: Cut) -> tuple[ImageSet, dict[str, Any]]:
    """The digits as grey images, for timm's augmentation, and the transform's options for them.

    They are brought to 0 to 255; the mean and the standard deviation are again those of the
    training split.
    """
    from sklearn import datasets

    found = datasets.load_digits()
    pixels = (found.images * (255 / DIGIT_LEVELS)).round().astype("uint8")
    classes = found.target.tolist()
    train, _, _ = cut.of_all(classes)
    images = [(Image.fromarray(grey), target) for grey, target in zip(pixels, classes, strict=True)]
    options = {
        "mean": (float(pixels[train].mean()) / 255,),
        "std": (float(pixels[train].std()) / 255,),
        "interpolation": "bilinear",
    }
    return ImageSet(images, None, None, DIGITS, DIGIT_SIZE), options


def load_circles(
    cut: Cut, *, points: int = 1000, noise: float = 0.05, factor: float = 0.3
) -> Parts:
    """Two concentric circles in the plane, N×2 (THESIS 3.2.2, ``sklearn.datasets.make_circles``).

    THESIS says 1000 points, a fifth of them for the test; noise and factor are those of its
    authors' program.

    Args:
        cut: Which points are for what; its seed also draws them.
        points: On both circles together.
        noise: The standard deviation of Gaussian noise on each coordinate.
        factor: The inner circle's radius; the outer one's is 1.
    """
    from sklearn import datasets

    seed = derived_seed(cut.seed) % 2**32
    where, classes = datasets.make_circles(points, noise=noise, factor=factor, random_state=seed)
    return _points(cut, where, classes, ("outer", "inner"))


def load_moons(cut: Cut, *, points: int = 1000, noise: float = 0.05) -> Parts:
    """Two interleaved half circles, N×2 (THESIS F.5.2, ``sklearn.datasets.make_moons``).

    Args:
        cut: Which points are for what; its seed also draws them.
        points: On both moons together.
        noise: The standard deviation of Gaussian noise on each coordinate.
    """
    from sklearn import datasets

    seed = derived_seed(cut.seed) % 2**32
    where, classes = datasets.make_moons(points, noise=noise, random_state=seed)
    return _points(cut, where, classes, ("upper", "lower"))


def _points(cut: Cut, where: Any, classes: Any, class_names: tuple[str, ...]) -> Parts:
    inputs, targets = torch.from_numpy(where).float(), torch.from_numpy(classes).long()
    train, validation, test = (
        TensorSamples(inputs[part], targets[part]) for part in cut.of_all(targets.tolist())
    )
    return Parts(train, validation if len(validation) else None, test, class_names, (2,), True)
