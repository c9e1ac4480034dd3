"""The sets that need no download: handwritten digits, and points in the plane.

scikit-learn has them. It is imported when a set is loaded.
"""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fxtransport.data.cut import Cut
from fxtransport.data.streams import TensorSamples, derived_seed

DIGITS = tuple("0123456789")
DIGIT_SIZE = (1, 8, 8)
DIGIT_LEVELS = 16


class Arrays(NamedTuple):
    """A set that lies in memory, cut.

    ``validation`` is empty where none was asked for.
    """

    train: TensorSamples
    validation: TensorSamples
    test: TensorSamples
    class_names: tuple[str, ...]


def load_digits(cut: Cut, input_size: tuple[int, ...] | None = None) -> Arrays:
    """1797 handwritten digits of 8×8 pixels (UCI, from scikit-learn), N×C×H×W.

    Pixels, 0 to 16, are divided by 16, resized bilinearly, and normalised by the mean and the
    standard deviation of all pixels of the training split. Channels repeat the one there is.

    Args:
        cut: Which digits are for what.
        input_size: (C, H, W) of the result; (1, 8, 8) if None.
    """
    from sklearn import datasets

    channels, *size = input_size or DIGIT_SIZE
    found = datasets.load_digits()
    images = torch.from_numpy(found.images).float().unsqueeze(1) / DIGIT_LEVELS
    if tuple(size) != DIGIT_SIZE[1:]:
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
    arrays = _cut(images, torch.from_numpy(found.target).long(), cut, DIGITS)
    std, mean = torch.std_mean(arrays.train.inputs, correction=0)

    def normalised(samples: TensorSamples) -> TensorSamples:
        inputs = ((samples.inputs - mean) / std).expand(-1, channels, -1, -1).contiguous()
        return TensorSamples(inputs, samples.targets)

    train, validation, test = map(normalised, arrays[:3])
    return Arrays(train, validation, test, arrays.class_names)


def load_circles(
    cut: Cut, *, points: int = 1000, noise: float = 0.05, factor: float = 0.5
) -> Arrays:
    """Two concentric circles in the plane, N×2 (THESIS 3.2.2, ``sklearn.datasets.make_circles``).

    THESIS says 1000 points, a fifth of them for the test, and no more; noise and factor are
    ours.

    Args:
        cut: Which points are for what; its seed also draws them.
        points: On both circles together.
        noise: The standard deviation of Gaussian noise on each coordinate.
        factor: The inner circle's radius; the outer one's is 1.
    """
    from sklearn import datasets

    found = datasets.make_circles(
        points, noise=noise, factor=factor, random_state=_numpy_seed(cut.seed)
    )
    return _cut(*_points(*found), cut, ("outer", "inner"))


def load_moons(cut: Cut, *, points: int = 1000, noise: float = 0.1) -> Arrays:
    """Two interleaved half circles, N×2 (THESIS F.5.2, ``sklearn.datasets.make_moons``).

    Args:
        cut: Which points are for what; its seed also draws them.
        points: On both moons together.
        noise: The standard deviation of Gaussian noise on each coordinate.
    """
    from sklearn import datasets

    found = datasets.make_moons(points, noise=noise, random_state=_numpy_seed(cut.seed))
    return _cut(*_points(*found), cut, ("upper", "lower"))


def digit_images() -> tuple[list[tuple[Image.Image, int]], tuple[str, ...]]:
    """The digits as grey images of 8×8 pixels with their classes, and the classes' names."""
    from sklearn import datasets

    found = datasets.load_digits()
    pixels = (found.images * (255 / DIGIT_LEVELS)).round().astype("uint8")
    images = [Image.fromarray(grey) for grey in pixels]
    return list(zip(images, found.target.tolist(), strict=True)), DIGITS


def _points(positions: np.ndarray, classes: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(positions).float(), torch.from_numpy(classes).long()


def _cut(inputs: Tensor, targets: Tensor, cut: Cut, class_names: tuple[str, ...]) -> Arrays:
    parts = cut.of_all(targets.tolist())
    train, validation, test = (TensorSamples(inputs[part], targets[part]) for part in parts)
    return Arrays(train, validation, test, class_names)


def _numpy_seed(seed: int) -> int:
    return derived_seed(seed) % 2**32
