"""What oneDNN's convolutions take from torch's CPU allocator while they run.

They copy tensors into layouts of their own. Which ones was observed with torch's profiler, with
float32 on AVX512; other processors choose alike.
"""

import math
from typing import Any

import torch

_CONVOLUTION = torch.ops.aten.convolution.default
_BACKWARD = torch.ops.aten.convolution_backward.default
_VECTOR = 16
"""float32 numbers in a vector register."""
_FEW_PER_GROUP = 8
"""With fewer channels in a group, the gradient is not copied."""
_FEW_CHANNELS = 8
"""Inputs of fewer channels are read as they are."""
_WIDE = 5
"""Depthwise kernels from this size on have a backward of their own."""
_PARTIAL_SUMS = 256
"""Its partial sums of the gradient of a weight in channels-last format."""


def convolution_workspace(func: Any, args: Any) -> int:
    """Bytes that an operator takes while it runs, beside what it returns.

    Args:
        func: The operator.
        args: Its arguments, on the CPU.

    Returns:
        0 for all but convolutions.
    """
    if func is _CONVOLUTION:
        x, weight, _, stride = args[:4]
        return _forward(x, weight, stride, groups=args[8])
    if func is _BACKWARD:
        gradient, x, weight, _, stride = args[:5]
        return _backward(gradient, x, weight, stride, groups=args[9])
    return 0


def _forward(x: torch.Tensor, weight: torch.Tensor, stride: Any, *, groups: int) -> int:
    if _is_pointwise(weight, stride, groups):
        return 0
    if _is_channels_last(x):
        return 2 * _bytes(weight)
    positions = math.prod(-(-n // s) for n, s in zip(x.shape[2:], stride, strict=False))
    out: int = x.shape[0] * weight.shape[0] * positions * x.element_size()
    return max(_copied(x) + _bytes(weight), out)


def _backward(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: Any, *, groups: int
) -> int:
    last = _is_channels_last(x)
    copied = _bytes(gradient) if _is_channels_last(gradient) != last else 0
    if _is_pointwise(weight, stride, groups):
        return copied
    wide = groups > 1 and weight.shape[1] == 1 and weight.shape[-1] >= _WIDE
    if last:
        return copied + _bytes(weight) * (_PARTIAL_SUMS if wide else 2 + _padding(weight, groups))
    few = groups > 1 and 1 < weight.shape[1] < _FEW_PER_GROUP
    return copied + _copied(x) + (0 if wide or few else _bytes(gradient))


def _padding(weight: torch.Tensor, groups: int) -> int:
    """How many times larger a copy of the weights is whose groups are filled up to a vector."""
    sizes = weight.shape[1], weight.shape[0] // groups
    if groups == 1 or sizes[0] == 1:
        return 1
    return math.prod(-(-_VECTOR // size) if size < _VECTOR else 1 for size in sizes)


def _is_pointwise(weight: torch.Tensor, stride: Any, groups: int) -> bool:
    return groups == 1 and weight.shape[2:].numel() == 1 and set(stride) == {1}


def _is_channels_last(tensor: torch.Tensor) -> bool:
    if tensor.dim() != 4 or tensor.is_contiguous():
        return False
    return tensor.is_contiguous(memory_format=torch.channels_last)


def _copied(x: torch.Tensor) -> int:
    return _bytes(x) if x.shape[1] >= _FEW_CHANNELS else 0


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
