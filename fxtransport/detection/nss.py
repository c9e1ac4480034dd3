"""Natural scene statistics of images, as BRISQUE takes them; defined for flat images, too.

Mittal, Moorthy and Bovik, *No-Reference Image Quality Assessment in the Spatial Domain*, IEEE
Transactions on Image Processing 21 (2012), sections III.A and III.B. 18 numbers at each of two
scales: shape and variance of a generalized normal distribution fitted to the normalized pixels
(their eq. 1), and shape, mean, left and right variance of an asymmetric one fitted to products of
neighbors in four directions (their eq. 11). Digits have large flat areas, where all normalized
pixels are 0: there, shapes are the largest of the table, means and variances 0.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fxtransport.detection.gray import gray

COLUMNS = 36
LEVELS = 255
"""Pixels of 1 are that here, as where the method was published."""

_AT_ONCE = 64
_STABILIZER = 1.0
_RADIUS, _SIGMA = 3, 7 / 6
_NEIGHBORS = ((0, 1), (1, 0), (1, 1), (1, -1))
_SHAPES = (0.2, 10.0, 0.001)


def nss(images: Tensor) -> Tensor:
    """The statistics of images.

    Args:
        images: N×C×H×W, floating point, pixels in [0, 1]; of any size from 2×2.

    Returns:
        N×36, float32, all finite.

    Raises:
        UsageError: they are not such images.
    """
    values = gray(images)
    if not len(values):
        return values.new_empty(0, COLUMNS)
    return torch.cat([_both_scales(part.double() * LEVELS) for part in values.split(_AT_ONCE)])


class Table(NamedTuple):
    """Generalized normal distributions by their shape, float64.

    Attributes:
        shapes: Ascending.
        ratios: E[|x|]²/E[x²] = Γ(2/a)²/(Γ(1/a)Γ(3/a)) of each shape a, which grows with it.
        means: What the mean of an asymmetric one is, over the difference of its deviations.
    """

    shapes: Tensor
    ratios: Tensor
    means: Tensor


@cache
def table(device: torch.device) -> Table:
    """The shapes that are told apart, on a device."""
    first, last, step = _SHAPES
    shapes = torch.arange(round((last - first) / step) + 1, dtype=torch.float64) * step + first
    one, two, three = (torch.lgamma(k / shapes) for k in (1.0, 2.0, 3.0))
    ratios = (2 * two - one - three).exp()
    means = (two - one + (one - three) / 2).exp()
    return Table(shapes.to(device), ratios.to(device), means.to(device))


def _both_scales(values: Tensor) -> Tensor:
    """The numbers at full and at half size: N×36."""
    smaller = resized(values, *(max(1, size // 2) for size in values.shape[2:]))
    return torch.cat([one_scale(values), one_scale(smaller)], 1).float()


def resized(values: Tensor, height: int, width: int) -> Tensor:
    """Images of another size, N×1×H×W."""
    if width == 1 < height:
        # torch gives all rows of a single column the values of the first
        return resized(values.mT, 1, height).mT
    return F.interpolate(
        values, size=[height, width], mode="bicubic", antialias=True, align_corners=False
    )


def blurred(values: Tensor) -> Tensor:
    """A Gaussian mean over 7×7 pixels, the outermost repeated beyond the border.

    Args:
        values: N×1×H×W.

    Returns:
        N×1×H×W.
    """
    at = torch.arange(-_RADIUS, _RADIUS + 1, dtype=values.dtype, device=values.device)
    weights = torch.exp(-at.square() / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    around = F.pad(values, (_RADIUS,) * 4, mode="replicate")
    rows = F.conv2d(around, weights.view(1, 1, -1, 1))
    return F.conv2d(rows, weights.view(1, 1, 1, -1))


def normalized(values: Tensor, blur: Callable[[Tensor], Tensor] = blurred) -> Tensor:
    """Pixels minus their local mean, over their local deviation plus 1.

    Args:
        values: N×1×H×W, pixels in [0, 255].
        blur: :func:`blurred`, or what computes the same.

    Returns:
        N×1×H×W.
    """
    mean = blur(values)
    # of squares of differences, not a difference of squares: a flat area is exactly 0
    offset = values.mean((2, 3), keepdim=True)
    spread = blur((values - offset).square()) - (mean - offset).square()
    found = (values - mean) / (spread.clamp(min=0).sqrt() + _STABILIZER)
    # what is left of a flat area by rounding
    return torch.where(found.abs() < 1e-9, torch.zeros_like(found), found)


def one_scale(
    values: Tensor, blur: Callable[[Tensor], Tensor] = blurred, known: Table | None = None
) -> Tensor:
    """The 18 numbers of one scale.

    Args:
        values: N×1×H×W, float64, pixels in [0, 255].
        blur: As of :func:`normalized`.
        known: By default :func:`table`.

    Returns:
        N×18.
    """
    pixels = normalized(values, blur)
    found = [symmetric(pixels.flatten(1), known)]
    for down, right in _NEIGHBORS:
        moved = torch.roll(pixels, (down, right), (2, 3))
        found.append(asymmetric((pixels * moved).flatten(1), known))
    return torch.cat(found, 1)


def symmetric(samples: Tensor, known: Table | None = None) -> Tensor:
    """Shape and variance of a generalized normal distribution of mean 0, by moments: N×2.

    Args:
        samples: N×K.
        known: By default :func:`table`.
    """
    square, magnitude = samples.square().mean(1), samples.abs().mean(1)
    ratio = magnitude.square() / square.clamp(min=torch.finfo(square.dtype).tiny)
    shape, _ = _nearest(known or table(samples.device), ratio, square > 0)
    return torch.stack([shape, square], 1)


def asymmetric(samples: Tensor, known: Table | None = None) -> Tensor:
    """Shape, mean, left and right variance of an asymmetric one, by moments: N×4.

    Args:
        samples: N×K.
        known: By default :func:`table`.
    """
    left, right = _deviation(samples, samples < 0), _deviation(samples, samples > 0)
    square, magnitude = samples.square().mean(1), samples.abs().mean(1)
    tiny = torch.finfo(square.dtype).tiny
    ratio = magnitude.square() / square.clamp(min=tiny)
    # (q³ + 1)(q + 1)/(q² + 1)² of q = left/right, which is defined where one of them is 0
    both = (left**2 + right**2).square().clamp(min=tiny)
    ratio = ratio * (left**3 + right**3) * (left + right) / both
    shape, factor = _nearest(known or table(samples.device), ratio, square > 0)
    return torch.stack([shape, (right - left) * factor, left.square(), right.square()], 1)


def _deviation(samples: Tensor, chosen: Tensor) -> Tensor:
    """The root of the mean square of the chosen samples; 0 where there are none."""
    total = (samples.square() * chosen).sum(1)
    return (total / chosen.sum(1).clamp(min=1)).sqrt()


def _nearest(known: Table, wanted: Tensor, varied: Tensor) -> tuple[Tensor, Tensor]:
    """The shapes whose ratios are nearest to those wanted, and their factors of means: N each.

    Of samples that are all 0, which have no ratio, it is the last shape.
    """
    last = len(known.ratios) - 1
    after = (known.ratios < wanted[:, None]).sum(1).clamp(1, last)
    nearer = wanted - known.ratios[after - 1] < known.ratios[after] - wanted
    chosen = torch.where(varied, after - nearer.long(), last)
    return known.shapes[chosen], known.means[chosen]
