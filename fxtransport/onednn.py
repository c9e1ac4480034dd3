"""What oneDNN's convolutions take from torch's CPU allocator while they run.

They copy tensors into layouts of their own, in which channels come in blocks. Which ones was
observed with torch's profiler, with float32 on AVX512; other processors choose alike.
"""

import math
from typing import Any

import torch

_CONVOLUTION = torch.ops.aten.convolution.default
_BACKWARD = torch.ops.aten.convolution_backward.default
_VECTOR = 16
"""float32 numbers in a vector register, and channels in a block."""
_LARGE_BATCH = 16
"""With a smaller batch and one thread, torch has a 1×1 convolution of its own."""
_FEW_PER_GROUP = 8
"""With fewer channels in a group, nothing is copied for the gradient of the weight."""
_FEW_CHANNELS = 4
"""Inputs of fewer channels are read as they are."""
_WIDE = 5
"""Depthwise kernels from this size on have a backward of their own."""
_PARTIAL_SUMS = 256
"""Its partial sums of the gradient of a weight in channels-last format."""
_SMALL_SUMS = 20
"""Those in contiguous format, and those of groups of few channels."""
_WIDEST = 14
"""For the gradient of a weight whose kernel is wider, patches of the input become columns."""
_COLUMN_SUMS = 4
"""The partial sums of that gradient."""


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
        return _backward(gradient, x, weight, stride, groups=args[9], needed=args[10])
    return 0


def _forward(x: torch.Tensor, weight: torch.Tensor, stride: Any, *, groups: int) -> int:
    last = _is_channels_last(x)
    copied = 0 if last else _made_contiguous(x)
    if _is_product(x, weight, stride, groups):
        return copied
    if last:
        return _copies(weight) * _bytes(weight)
    positions = math.prod(-(-n // s) for n, s in zip(x.shape[2:], stride, strict=False))
    out: int = x.shape[0] * weight.shape[0] * positions * x.element_size()
    blocked = out * _blocked(weight.shape[0], groups) // weight.shape[0]
    return copied + max(
        _copied(x, groups) + _copied_weight(weight, groups) + blocked - out, blocked
    )


def _backward(
    gradient: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: Any,
    *,
    groups: int,
    needed: Any,
) -> int:
    last = _is_channels_last(x)
    given = _bytes(gradient) if last and not _is_channels_last(gradient) else 0
    copied = given if last else _made_contiguous(x) + _made_contiguous(gradient)
    if _is_product(x, weight, stride, groups):
        return copied
    wide = groups > 1 and weight.shape[1] == 1 and weight.shape[-1] >= _WIDE
    if last:
        return copied + _backward_last(gradient, weight, groups, wide=wide, needed=needed)
    first = _of_input(gradient, x, weight, stride, groups) if needed[0] else 0
    kept = _bytes(x) if needed[0] else 0
    own = _bytes(weight) if needed[1] else 0
    second = kept + (_of_weight(gradient, x, weight, groups, wide=wide) if needed[1] else 0)
    return copied + max(first, second) - kept - own


def _backward_last(
    gradient: torch.Tensor, weight: torch.Tensor, groups: int, *, wide: bool, needed: Any
) -> int:
    """What tensors in channels-last format take: copies of the weight, and of its gradient."""
    if not needed[1]:
        return _copies(weight) * _bytes(weight)
    if weight.shape[-1] > _WIDEST:
        return (1 + _COLUMN_SUMS) * _bytes(weight) + _columns(gradient, weight)
    copies = _copies(weight) + _padding(weight, groups)
    return _bytes(weight) * (_PARTIAL_SUMS if wide else copies)


def _copies(weight: torch.Tensor) -> int:
    """How often a weight is copied beside tensors in channels-last format: into it, and for oneDNN.

    One of a single position is in both formats.
    """
    return 1 if weight.shape[2:].numel() == 1 else 2


def _of_input(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: Any, groups: int
) -> int:
    """What the gradient of the input takes in all: its own copy is copied back, at times twice."""
    strided = groups == 1 and set(stride) != {1}
    own = _bytes(x) if strided else _blocked_bytes(x, groups)
    channels = _blocked(weight.shape[1], groups)
    filled = _copied_weight(weight, groups) // _channels_in(weight, groups) * channels
    again = own if strided else 0
    return max(_blocked_bytes(gradient, groups) + filled + own, own + again + _bytes(x))


def _of_weight(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, groups: int, *, wide: bool
) -> int:
    """What the gradient of the weight takes in all."""
    own = _copied_weight(weight, groups)
    if weight.shape[-1] > _WIDEST:
        return own + _columns(gradient, weight) + _COLUMN_SUMS * own
    if wide or (groups > 1 and 1 < weight.shape[1] < _FEW_PER_GROUP):
        return own + _SMALL_SUMS * own
    read = _copied(x, groups) + _blocked_bytes(gradient, groups)
    return own + max(read, _bytes(weight))


def _columns(gradient: torch.Tensor, weight: torch.Tensor) -> int:
    """The bytes of what the kernel reads of one image."""
    return weight[0].numel() * gradient.shape[2:].numel() * weight.element_size()


def _padding(weight: torch.Tensor, groups: int) -> int:
    """How many times larger a copy of the weights is whose groups are filled up to a vector."""
    sizes = weight.shape[1], weight.shape[0] // groups
    if groups == 1 or sizes[0] == 1:
        return 1
    return math.prod(-(-_VECTOR // size) if size < _VECTOR else 1 for size in sizes)


def _is_product(x: torch.Tensor, weight: torch.Tensor, stride: Any, groups: int) -> bool:
    """Whether torch does without oneDNN, by a product of matrices."""
    pointwise = groups == 1 and weight.shape[2:].numel() == 1 and set(stride) == {1}
    return pointwise and x.shape[0] < _LARGE_BATCH and torch.get_num_threads() == 1


def _is_channels_last(tensor: torch.Tensor) -> bool:
    if tensor.dim() != 4 or tensor.is_contiguous():
        return False
    return tensor.is_contiguous(memory_format=torch.channels_last)


def _made_contiguous(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_contiguous() else _bytes(tensor)


def _copied(x: torch.Tensor, groups: int) -> int:
    return _blocked_bytes(x, groups) if x.shape[1] >= _FEW_CHANNELS else 0


def _copied_weight(weight: torch.Tensor, groups: int) -> int:
    """The bytes of a weight in blocks."""
    out = _blocked(weight.shape[0], groups)
    inner = _channels_in(weight, groups)
    return out * inner * weight.shape[2:].numel() * weight.element_size()


def _channels_in(weight: torch.Tensor, groups: int) -> int:
    """Those of a block; few are read as they are."""
    few = weight.shape[1] < _FEW_CHANNELS
    return weight.shape[1] if few else _blocked(weight.shape[1], groups)


def _blocked_bytes(x: torch.Tensor, groups: int) -> int:
    """The bytes of activations, B×C×…, in blocks of channels."""
    if x.shape[1] < _FEW_CHANNELS:
        return _bytes(x)
    return _bytes(x) * _blocked(x.shape[1], groups) // x.shape[1]


def _blocked(channels: int, groups: int) -> int:
    return channels if groups > 1 else -(-channels // _VECTOR) * _VECTOR


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
