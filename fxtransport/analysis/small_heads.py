"""What a small convolutional head costs, in closed form.

A graph has hundreds of places to cut, and such a head has several sizes at each. Running them all
would take as long as the rest of a compilation.
"""

from math import prod

import torch

from fxtransport.heads import POOLED, dtype_of
from fxtransport.ir import HeadCost, HeadSpec, Layout

_KERNEL = 3


def small_head_cost(
    spec: HeadSpec, shape: tuple[int, ...], batch_size: int
) -> tuple[HeadCost, bool]:
    """What a :class:`fxtransport.heads.ConvHead` costs, and whether it saves the map itself.

    Args:
        spec: The head.
        shape: Of the map, without the batch.
        batch_size: What activations are counted for.
    """
    sizes = shape[1:] if spec.layouts[0] is Layout.CHANNELS_FIRST else shape[:-1]
    channels, width, dims, classes = spec.channels[0], spec.width, spec.dims, spec.num_classes
    places, read = spec.pooled**dims, width * POOLED**dims
    weights, flops = _pooling(channels, sizes, spec.pooled)
    weights_after, flops_after = _pooling(width, (spec.pooled,) * dims, POOLED)
    kernel = width * width * _KERNEL**dims
    parameters = channels * width + kernel + 4 * width + (read + 1) * classes
    flops += flops_after + 2 * (places * (channels * width + kernel) + read * classes)
    is_pooled = any(size != spec.pooled for size in sizes)
    # of each convolution what batch norm reads, and what ReLU returns
    per_sample = 4 * width * places
    per_sample += channels * places * is_pooled + read * (spec.pooled != POOLED)
    dtype = dtype_of(spec)
    statistics = 4 * width * max(dtype.itemsize, torch.float32.itemsize)
    saved = (batch_size * per_sample + weights + weights_after) * dtype.itemsize + statistics
    return HeadCost(parameters, flops, saved), not is_pooled


def _pooling(channels: int, sizes: tuple[int, ...], count: int) -> tuple[int, int]:
    """The numbers that pooling saves, and its FLOPs for one sample; see ``average_windows``."""
    saved = flops = 0
    left = list(sizes)
    for dim, size in enumerate(sizes):
        if size % count:
            saved += size * count
            flops += 2 * channels * prod(left) * count
        left[dim] = count
    return saved, flops
