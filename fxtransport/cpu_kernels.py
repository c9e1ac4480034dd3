"""What torch's CPU kernels take from the allocator while they run.

Many copy what does not lie in memory as they read it. What each does was observed with torch's
profiler, and is said in ``aten/src/ATen/native``.
"""

from collections.abc import Callable
from typing import Any

import torch

from fxtransport.onednn import convolution_workspace

_aten = torch.ops.aten


def kernel_workspace(func: Any, args: Any) -> int:
    """Bytes that an operator takes while it runs, beside what it returns.

    Args:
        func: The operator.
        args: Its arguments, on the CPU.

    Returns:
        0 for operators of which nothing is known.
    """
    rule = _RULES.get(func)
    return convolution_workspace(func, args) if rule is None else rule(args)


def without_input_gradient(func: Any, args: Any) -> Any:
    """The arguments of an operator with which it does not return the gradient of its input.

    They are the same for operators that have no choice.
    """
    place = _NEEDED.get(func)
    if place is None:
        return args
    return (*args[:place], (False, *args[place][1:]), *args[place + 1 :])


def _batch_norm_backward(args: Any) -> int:
    """The gradient of the input is made twice where both tensors are in one memory format."""
    gradient, x, needed = args[0], args[1], args[9]
    formats = _format_of(x), _format_of(gradient)
    return x.nbytes if needed[0] and formats[0] is not None and formats[0] == formats[1] else 0


def _contiguous(*read: int) -> Callable[[Any], int]:
    """A rule: arguments that are not contiguous are copied."""
    return lambda args: sum(args[i].nbytes for i in read if not args[i].is_contiguous())


def _in_a_format(*read: int) -> Callable[[Any], int]:
    """A rule: arguments are copied that are in no memory format."""
    return lambda args: sum(args[i].nbytes for i in read if _format_of(args[i]) is None)


def _group_norm_backward(args: Any) -> int:
    """The input is brought into a memory format, and the gradient into the same."""
    gradient, x = args[:2]
    other = _format_of(gradient) != (_format_of(x) or torch.contiguous_format)
    return _in_a_format(1)(args) + (gradient.nbytes if other else 0)


def _pool_backward(args: Any) -> int:
    """All is in the memory format of what is given, and the gradient of the input then copied."""
    is_last, *others = (
        (_format_of(x) is torch.channels_last, x.nbytes)
        for x in args
        if isinstance(x, torch.Tensor)
    )
    copied = sum(size for last, size in others if last != is_last[0])
    return _in_a_format(0)(args) + copied


def _gelu_backward(args: Any) -> int:
    """The gradient is made contiguous for oneDNN, and what comes of it brought into its layout."""
    gradient, x = args[:2]
    if not x.is_contiguous() or gradient.is_contiguous():
        return 0
    is_dense = torch._prims_common.is_non_overlapping_and_dense_or_false(gradient)
    return int(gradient.nbytes) + (x.nbytes if is_dense else 0)


def _format_of(tensor: torch.Tensor) -> torch.memory_format | None:
    """The memory format of a tensor; None if it is in none."""
    if tensor.is_contiguous():
        return torch.contiguous_format
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.dim())
    return last if last is not None and tensor.is_contiguous(memory_format=last) else None


_RULES: dict[Any, Callable[[Any], int]] = {
    _aten.native_batch_norm_backward.default: _batch_norm_backward,
    _aten.native_layer_norm.default: _contiguous(0),
    _aten.native_layer_norm_backward.default: _contiguous(0, 1),
    _aten.native_group_norm.default: _in_a_format(0),
    _aten.native_group_norm_backward.default: _group_norm_backward,
    _aten._softmax.default: _contiguous(0),
    _aten._log_softmax.default: _contiguous(0),
    _aten._softmax_backward_data.default: _contiguous(0, 1),
    _aten._log_softmax_backward_data.default: _contiguous(0, 1),
    _aten.gelu_backward.default: _gelu_backward,
    _aten.avg_pool2d.default: _in_a_format(0),
    _aten.avg_pool2d_backward.default: _pool_backward,
    _aten.max_pool2d_with_indices.default: _in_a_format(0),
    _aten.max_pool2d_with_indices_backward.default: _pool_backward,
    _aten._adaptive_avg_pool2d.default: _in_a_format(0),
    _aten._adaptive_avg_pool2d_backward.default: _pool_backward,
}
_NEEDED = {
    _aten.convolution_backward.default: 10,
    _aten.native_batch_norm_backward.default: 9,
}
"""Where the arguments say which gradients are needed."""
