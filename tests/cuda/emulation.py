"""CUDA tensors whose operators the CPU computes, where the device's memory is the host's.

Tensors are torch's own: they are allocated by its caching allocator, and what autograd records,
what autocast casts and which kernel is chosen is decided as on a device. In the place of each
kernel an operator of the CPU runs on the same memory.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)

_NATIVE = {
    aten.empty.memory_format,
    aten.empty_strided.default,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
    aten.set_.source_Storage,
    aten.set_.source_Storage_storage_offset,
    aten.set_.source_Tensor,
    aten.record_stream.default,
    aten.is_pinned.default,
    aten._pin_memory.default,
    aten._local_scalar_dense.default,
}
"""Operators that launch no kernel. Neither do views."""
_BETWEEN_DEVICES = {aten.copy_.default, aten._to_copy.default}
_INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
"""Operators that take indices from the CPU."""


_WAITING = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
}
"""Operators whose result has a size that only the device knows."""


class MixedDevicesError(RuntimeError):
    """An operator was given tensors of the CPU and of the device, which a device refuses."""


class WaitingError(RuntimeError):
    """An operator waits for the device, and ``torch.cuda.set_sync_debug_mode`` forbids it."""


class EmulatedCuda(TorchDispatchMode):
    """While it is active, operators on CUDA tensors are computed by the CPU.

    Attributes:
        ran: The names of the operators that were asked for on the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ran: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in _pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        target = kwargs.get("device")
        on_device = any(x.is_cuda for x in tensors)
        to_device = target is not None and torch.device(target).type == "cuda"
        if not (on_device or to_device) or func in _NATIVE or _is_view(func) or _has_no_data():
            return func(*args, **kwargs)
        self.ran.add(func.name())
        if func not in _BETWEEN_DEVICES:
            _check_devices(func, args, tensors)
        goes_to_device = to_device if target is not None else on_device
        if torch.cuda.get_sync_debug_mode() and _waits(func, args, kwargs, goes_to_device):
            raise WaitingError(f"{func} waits for the device")
        if torch.Tag.nondeterministic_seeded in func.tags:
            with _draws_of_device(kwargs.pop("generator", None)):
                return _compute(func, args, kwargs, goes_to_device)
        return _compute(func, args, kwargs, goes_to_device)


def _has_no_data() -> bool:
    """Whether tensors are fake: torch asks this mode first."""
    fake = torch._C._TorchDispatchModeKey.FAKE
    return torch._C._get_dispatch_mode(fake) is not None


def _is_view(func: Any) -> bool:
    """Whether it returns a tensor on memory that it was given, unchanged, or makes one a view."""
    if torch.Tag.inplace_view in func.tags:
        return True
    aliases = [r.alias_info for r in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _check_devices(func: Any, args: Any, tensors: list[torch.Tensor]) -> None:
    """See that tensors are on one device; numbers may be on the CPU, and indices.

    Raises:
        MixedDevicesError: they are not.
    """
    takes_numbers = (
        torch.Tag.pointwise in func.tags or "foreach" in func.name() or func in _INDEXING
    )
    for tensor in tensors:
        is_number = takes_numbers and tensor.dim() == 0
        is_index = func in _INDEXING and any(tensor is each for each in args[1])
        if not (tensor.is_cuda or is_number or is_index):
            shapes = [(str(each.device), tuple(each.shape)) for each in tensors]
            raise MixedDevicesError(f"{func} is given tensors of several devices: {shapes}")


def _waits(func: Any, args: Any, kwargs: Any, goes_to_device: bool) -> bool:
    """Whether an operator makes the CPU wait for the device."""
    if func is aten.copy_.default:
        return args[1].is_cuda and not (args[0].is_cuda or kwargs.get("non_blocking"))
    if func is aten._to_copy.default:
        return not (goes_to_device or kwargs.get("non_blocking"))
    masks = args[1] if func in _INDEXING else ()
    return func in _WAITING or any(x is not None and x.dtype is torch.bool for x in masks)


@contextmanager
def _draws_of_device(generator: torch.Generator | None) -> Iterator[None]:
    """Let the CPU draw what follows from the state of a generator of the device."""
    generator = generator or torch.cuda.default_generators[CUDA.index]
    offset = generator.get_offset()
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(generator.initial_seed() + offset)
        yield
    # a multiple of 4, as kernels advance it
    generator.set_offset(offset + 4)


def _compute(func: Any, args: Any, kwargs: dict[str, Any], on_device: bool) -> Any:
    """Run an operator on the CPU, on the memory of its arguments."""
    given: dict[int, torch.Tensor] = {}

    def on_cpu(value: Any) -> Any:
        if isinstance(value, torch.device):
            return CPU
        if not isinstance(value, torch.Tensor) or not value.is_cuda:
            return value
        seen = as_cpu(value)
        given[id(seen)] = value
        return seen

    cpu_args, cpu_kwargs = _pytree.tree_map(on_cpu, (args, kwargs))
    returned = _ON_CPU.get(func, func)(*cpu_args, **cpu_kwargs)

    def back(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) in given:
            return given[id(value)]
        return as_cuda(value) if on_device else value

    return _pytree.tree_map(back, returned)


def as_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the CPU on the memory of a CUDA tensor. It does not keep that alive."""
    storage = tensor.untyped_storage()
    size = storage.nbytes()
    if size == 0:
        return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
    memory = (ctypes.c_char * size).from_address(storage.data_ptr())
    seen = torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()
    empty = torch.empty(0, dtype=tensor.dtype)
    return empty.set_(seen, tensor.storage_offset(), tensor.size(), tensor.stride())


def as_cuda(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor of the CPU in the memory of the device, with its strides."""
    copied = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=CUDA)
    if tensor.untyped_storage().nbytes():
        as_cpu(copied).copy_(tensor)
    return copied


def _batch_norm(x: Any, weight: Any, bias: Any, mean: Any, var: Any, *options: Any) -> Any:
    out = aten.native_batch_norm(x, weight, bias, mean, var, *options)
    return (*out, torch.empty(0, dtype=torch.uint8))


def _batch_norm_backward(
    x: Any, grad: Any, weight: Any, mean: Any, var: Any, saved: Any, deviation: Any, *rest: Any
) -> Any:
    eps, _ = rest
    return aten.native_batch_norm_backward(
        grad, x, weight, mean, var, saved, deviation, True, eps, [True] * 3
    )


def _attention(
    q: Any, k: Any, v: Any, p: float, causal: bool, scale: Any, bias: Any = None
) -> tuple[Any, Any]:
    assert p == 0, "the CPU's operator has no dropout"
    out, sums = aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, p, causal, attn_mask=bias, scale=scale
    )
    return out, sums


def _attention_backward(
    saved: tuple[Any, ...], p: float, causal: bool, scale: Any, bias: Any = None
) -> Any:
    return aten._scaled_dot_product_flash_attention_for_cpu_backward(
        *saved, p, causal, attn_mask=bias, scale=scale
    )


def _seeds() -> tuple[torch.Tensor, torch.Tensor]:
    """The state of a generator before and after, for dropout."""
    return torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.int64)


def _flash(
    q: Any,
    k: Any,
    v: Any,
    p: float = 0,
    causal: bool = False,
    debug: bool = False,
    scale: Any = None,
) -> Any:
    out, sums = _attention(q, k, v, p, causal, scale)
    return out, sums, None, None, q.shape[2], k.shape[2], *_seeds(), out.new_empty(0)


def _flash_backward(*args: Any, scale: Any = None) -> Any:
    return _attention_backward(args[:6], *args[10:12], scale)


def _cudnn(
    q: Any,
    k: Any,
    v: Any,
    bias: Any,
    sums: bool,
    p: float = 0,
    causal: bool = False,
    debug: bool = False,
    scale: Any = None,
) -> Any:
    out, logsumexp = _attention(q, k, v, p, causal, scale, bias)
    return out, logsumexp, None, None, q.shape[2], k.shape[2], *_seeds(), out.new_empty(0)


def _cudnn_backward(*args: Any, scale: Any = None) -> Any:
    return _attention_backward(args[:6], *args[13:15], scale, args[8])


def _efficient(
    q: Any,
    k: Any,
    v: Any,
    bias: Any,
    sums: bool,
    p: float = 0,
    causal: bool = False,
    scale: Any = None,
) -> Any:
    return *_attention(q, k, v, p, causal, scale, bias), *_seeds()


def _efficient_backward(
    grad: Any, q: Any, k: Any, v: Any, bias: Any, out: Any, sums: Any, *rest: Any, scale: Any = None
) -> Any:
    _, _, p, _, causal = (*rest, False)[:5]
    return *_attention_backward((grad, q, k, v, out, sums), p, causal, scale, bias), None


_ON_CPU: dict[Any, Callable[..., Any]] = {
    aten.cudnn_batch_norm.default: _batch_norm,
    aten.cudnn_batch_norm_backward.default: _batch_norm_backward,
    aten._scaled_dot_product_flash_attention.default: _flash,
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    aten._scaled_dot_product_cudnn_attention.default: _cudnn,
    aten._scaled_dot_product_cudnn_attention_backward.default: _cudnn_backward,
    aten._scaled_dot_product_efficient_attention.default: _efficient,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
}
"""Operators that the CPU does not have, in terms of those that it has."""
