"""Three numbers of an image's Laplacian: a baseline that sees no network."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fxtransport.detection.gray import gray

COLUMNS = 3


def laplacian(images: Tensor) -> Tensor:
    """Of the absolute Laplacian, the mean, the root of the mean square, and the lowest tenth.

    The Laplacian of a gray image is the sum of a pixel's four neighbors minus four times the
    pixel. At the border the outermost pixels are repeated. The third number is the smallest that
    a tenth of the pixels do not exceed: it is 0 where a tenth of an image is flat, until an
    attack changes that.

    Args:
        images: N×C×H×W, floating point, pixels in [0, 1].

    Returns:
        N×3, float32.

    Raises:
        UsageError: they are not such images.
    """
    values = gray(images)
    if not len(values):
        return values.new_empty(0, COLUMNS)
    around = F.pad(values, (1, 1, 1, 1), mode="replicate")
    sides = around[..., :-2, 1:-1] + around[..., 2:, 1:-1]
    sides = sides + around[..., 1:-1, :-2] + around[..., 1:-1, 2:]
    found = (sides - 4 * values).abs().flatten(1)
    # ONNX knows topk, not kthvalue
    tenth = found.topk(-(-found.shape[1] // 10), 1, largest=False, sorted=False)
    lowest = tenth.values.amax(1)
    return torch.stack([found.mean(1), found.square().mean(1).sqrt(), lowest], 1)
