"""Images as one channel of numbers."""

import torch
from torch import Tensor

from fxtransport.errors import UsageError

_LUMA = (0.299, 0.587, 0.114)
_RGB = 3


def gray(images: Tensor) -> Tensor:
    """Gray images, float32: the luma of BT.601 of three channels, the mean of any other number.

    Args:
        images: N×C×H×W, floating point.

    Returns:
        N×1×H×W.

    Raises:
        UsageError: they are of another shape or type, or hold NaN or infinities. What is compiled
            or exported does not look at values.
    """
    if images.ndim != 4 or 0 in images.shape[1:] or not images.is_floating_point():
        raise UsageError(
            f"images are N×C×H×W floating-point numbers, not {tuple(images.shape)} {images.dtype}"
        )
    found = images.float()
    if not torch.compiler.is_compiling():
        _check_finite(found)
    if found.shape[1] == _RGB:
        weights = torch.tensor(_LUMA, device=found.device).view(1, _RGB, 1, 1)
        return (found * weights).sum(1, keepdim=True)
    return found.mean(1, keepdim=True)


def _check_finite(images: Tensor) -> None:
    good = images.isfinite().flatten(1).all(1)
    if not good.all():
        bad = int(good.int().argmin())
        raise UsageError(f"image {bad} holds NaN or infinities; leave it out")
