"""Natural scene statistics of images, as BRISQUE takes them; defined for flat images, too.

Mittal, Moorthy and Bovik, *No-Reference Image Quality Assessment in the Spatial Domain*, IEEE
Transactions on Image Processing 21 (2012), sections III.A and III.B. 18 numbers at each of two
scales: shape and variance of a generalized normal distribution fitted to the normalized pixels
(their eq. 1), and shape, mean, left and right variance of an asymmetric one fitted to products of
neighbors in four directions (their eq. 11). Digits have large flat areas, where all normalized
pixels are 0: there, shapes are the largest of the table, means and variances 0.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from fxtransport.detection.gray import gray

COLUMNS = 36

_LEVELS = 255
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
    return torch.cat([_both_scales(part.double() * _LEVELS) for part in values.split(_AT_ONCE)])


def _both_scales(values: Tensor) -> Tensor:
    """The numbers at full and at half size: N×36."""
    found = [_scale(values)]
    half = [max(1, size // 2) for size in values.shape[2:]]
    smaller = F.interpolate(values, size=half, mode="bicubic", antialias=True, align_corners=False)
    found.append(_scale(smaller))
    return torch.cat(found, 1).float()


def normalized(values: Tensor) -> Tensor:
    """Pixels minus their local mean, over their local deviation plus 1.

    Args:
        values: N×1×H×W, pixels in [0, 255].

    Returns:
        N×1×H×W.
    """
    mean = _blurred(values)
    # of squares of differences, not a difference of squares: a flat area is exactly 0
    offset = values.mean((2, 3), keepdim=True)
    spread = _blurred((values - offset).square()) - (mean - offset).square()
    found = (values - mean) / (spread.clamp(min=0).sqrt() + _STABILIZER)
    # what is left of a flat area by rounding
    return torch.where(found.abs() < 1e-9, torch.zeros_like(found), found)


def _scale(values: Tensor) -> Tensor:
    """The 18 numbers of one scale: N×18."""
    pixels = normalized(values)
    found = [symmetric(pixels.flatten(1))]
    for down, right in _NEIGHBORS:
        moved = torch.roll(pixels, (down, right), (2, 3))
        found.append(asymmetric((pixels * moved).flatten(1)))
    return torch.cat(found, 1)


def symmetric(samples: Tensor) -> Tensor:
    """Shape and variance of a generalized normal distribution of mean 0, by moments: N×2.

    Args:
        samples: N×K.
    """
    square, magnitude = samples.square().mean(1), samples.abs().mean(1)
    shapes, ratios, _ = _table(samples.device)
    ratio = magnitude.square() / square.clamp(min=torch.finfo(square.dtype).tiny)
    shape = torch.where(square > 0, _at(shapes, ratios, ratio), shapes[-1])
    return torch.stack([shape, square], 1)


def asymmetric(samples: Tensor) -> Tensor:
    """Shape, mean, left and right variance of an asymmetric one, by moments: N×4.

    Args:
        samples: N×K.
    """
    left, right = _deviation(samples, samples < 0), _deviation(samples, samples > 0)
    square, magnitude = samples.square().mean(1), samples.abs().mean(1)
    tiny = torch.finfo(square.dtype).tiny
    ratio = magnitude.square() / square.clamp(min=tiny)
    # (q³ + 1)(q + 1)/(q² + 1)² of q = left/right, which is defined where one of them is 0
    both = (left**2 + right**2).square().clamp(min=tiny)
    ratio = ratio * (left**3 + right**3) * (left + right) / both
    shapes, ratios, means = _table(samples.device)
    shape = torch.where(square > 0, _at(shapes, ratios, ratio), shapes[-1])
    at = torch.searchsorted(shapes, shape).clamp(max=len(shapes) - 1)
    mean = (right - left) * means[at]
    return torch.stack([shape, mean, left.square(), right.square()], 1)


def _deviation(samples: Tensor, chosen: Tensor) -> Tensor:
    """The root of the mean square of the chosen samples; 0 where there are none."""
    total = (samples.square() * chosen).sum(1)
    return (total / chosen.sum(1).clamp(min=1)).sqrt()


def _at(shapes: Tensor, ratios: Tensor, wanted: Tensor) -> Tensor:
    """The shape whose ratio E[|x|]²/E[x²] is nearest to each wanted one."""
    after = torch.searchsorted(ratios, wanted).clamp(1, len(ratios) - 1)
    nearer = wanted - ratios[after - 1] < ratios[after] - wanted
    return shapes[after - nearer.long()]


@cache
def _table(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes; the ratio Γ(2/a)²/(Γ(1/a)Γ(3/a)), which grows with them; and the factor of means."""
    first, last, step = _SHAPES
    shapes = torch.arange(round((last - first) / step) + 1, dtype=torch.float64) * step + first
    one, two, three = (torch.lgamma(k / shapes) for k in (1.0, 2.0, 3.0))
    ratios = (2 * two - one - three).exp()
    means = (two - one + (one - three) / 2).exp()
    return shapes.to(device), ratios.to(device), means.to(device)


def _blurred(values: Tensor) -> Tensor:
    """A Gaussian mean over 7×7 pixels, the outermost repeated beyond the border."""
    at = torch.arange(-_RADIUS, _RADIUS + 1, dtype=values.dtype, device=values.device)
    weights = torch.exp(-at.square() / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    around = F.pad(values, (_RADIUS,) * 4, mode="replicate")
    rows = F.conv2d(around, weights.view(1, 1, -1, 1))
    return F.conv2d(rows, weights.view(1, 1, 1, -1))
