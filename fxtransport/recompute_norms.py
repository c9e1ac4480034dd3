"""Normalized and activated maps that are computed again in the backward pass, not kept.

A convolution keeps its input for the backward pass. Where that is an activation of a batch norm's
result, it follows in one pass from what the batch norm keeps anyway; where it is what a layer norm,
a GELU or a SiLU returns, from what these keep. Such a map need not be kept.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fxtransport.errors import TrainingError
from fxtransport.recomputed import (
    Again,
    Held,
    Packing,
    Recomputed,
    forget,
    note,
    placed,
    recomputed,
    same_memory,
)
from fxtransport.residue import BatchNorm, is_plain_formula

ACTIVATIONS: Mapping[Callable[..., Any], bool] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), False),
    **dict.fromkeys((F.relu6, F.leaky_relu, F.hardtanh), False),
    **dict.fromkeys((F.silu, F.gelu, F.hardswish, F.mish), True),
}
"""Functions of one tensor, and whether they keep their input for the backward pass."""
NORMS = frozenset((F.layer_norm, F.group_norm))
SUMS = frozenset((torch.add, Tensor.add, Tensor.__add__, Tensor.add_, Tensor.__iadd__))
PRODUCTS = frozenset((torch.mul, Tensor.mul, Tensor.__mul__))


class RecomputeNorms(TorchFunctionMode):
    """While it is entered, normalized and activated maps are not kept for the backward pass.

    Numbers stay the same, bit for bit: a batch norm's result is compared with what would be
    computed again when such a batch norm is seen for the first time.

    Raises:
        TrainingError: a batch norm's result cannot be computed again bit for bit.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """The result of a function, which may note how it is computed again."""
        kwargs = kwargs or {}
        if not torch.is_grad_enabled() or _is_left_alone(func):
            return func(*args, **kwargs)
        if (func is F.batch_norm or func in NORMS) and args and recomputed(args[0]) is not None:
            forget(args[0])  # the norm keeps it
        if func is F.batch_norm:
            return _normalize(args, kwargs)
        if func in ACTIVATIONS and args and isinstance(args[0], Tensor):
            source = recomputed(args[0])
            if source is not None:
                return _activate(source, func, args, kwargs)
            return _compute(func, args, kwargs) if ACTIVATIONS[func] else func(*args, **kwargs)
        if func in NORMS and args:
            return _compute(func, args, kwargs)
        given = [a for a in args if isinstance(a, Tensor) and recomputed(a) is not None]
        if len(given) == 1 and len(args) == 2 and not kwargs:
            if func in SUMS:
                return _add(given[0], func, args)
            if func in PRODUCTS:
                return _multiply(given[0], func, args)
        return _use(given, func, args, kwargs) if given else func(*args, **kwargs)


def recomputing(enabled: bool) -> AbstractContextManager[object]:
    """Where norms and activations are computed again, if they are to be, and can be here.

    Inductor decides itself what it keeps, and transforms of ``torch.func`` keep nothing.
    """
    return RecomputeNorms() if enabled and not is_plain_formula() else nullcontext()


def _is_left_alone(func: Any) -> bool:
    """Whether it reads an attribute, or something else decides what is kept: a checkpoint, say."""
    return (
        torch.compiler.is_compiling()
        or getattr(func, "__name__", "") == "__get__"
        or torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
    )


def _normalize(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The result of a batch norm."""
    result = F.batch_norm(*args, **kwargs)
    norm = BatchNorm.of(result)
    if norm is not None:
        note(result, Recomputed(_verified(norm, result), result))
    return result


def _compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The result of a function that keeps its first argument for the backward pass."""
    first = args[0]
    version = first._version
    result: Tensor = func(*args, **kwargs)
    if result.requires_grad and first._version == version:
        again, held = Again(func, args, kwargs), Held(first)
        note(result, Recomputed(lambda: again(held.tensor()), result))
    return result


def _activate(
    source: Recomputed, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """The result of an activation of what can be computed again."""
    given, version = args[0], args[0]._version
    packing = Packing([given])
    result: Tensor = packing.run(func, args, kwargs)
    overwrites = given._version != version
    again = Again(func, args, kwargs)
    how = Recomputed(lambda: again(source.get(overwrites=overwrites)), result, source, source.sums)
    packing.give_up(lambda tensor: same_memory(tensor, result), how)
    if overwrites and ACTIVATIONS[func]:
        # autograd keeps a copy of what it was given
        packing.give_up(lambda tensor: _is_copy(tensor, source, func), source)
    packing.close()
    note(result, how)
    return result


_COPIED: set[Any] = set()
"""The functions in place of which was seen that autograd keeps a copy of what they were given."""


def _is_copy(tensor: Tensor, source: Recomputed, func: Any) -> bool:
    """Whether a tensor that autograd keeps is a copy of what is computed again."""
    same = tensor.dtype, tensor.shape, tensor.stride()
    if same != (source.dtype, source.shape, source.stride):
        return False
    if func not in _COPIED and not _has_no_data(tensor):
        if not torch.equal(source.compute(), tensor):
            return False
        _COPIED.add(func)
    return True


def _add(given: Tensor, func: Any, args: tuple[Any, ...]) -> Tensor:
    """The sum of what can be computed again and another tensor, such as a block's input.

    Of sums of sums, every other one is kept, so that no long chain must be computed again.
    """
    source = recomputed(given)
    assert source is not None, "it is known how it is computed again"
    other = args[1] if args[0] is given else args[0]
    versions = [value._version for value in (given, other) if isinstance(value, Tensor)]
    result: Tensor = func(*args)
    overwrites = given._version != versions[0]
    if overwrites:
        forget(given)
    is_kept = isinstance(other, Tensor) and other.shape == given.shape and len(versions) == 2
    if not is_kept or other._version != versions[1] or source.sums or result.dtype != given.dtype:
        return result
    again, held, first = Again(func, args[:1], {}), Held(other), args[0] is given

    def make() -> Tensor:
        value = source.get(overwrites=overwrites)
        return again(value, held.tensor()) if first else again(held.tensor(), value)

    note(result, Recomputed(make, result, source, sums=1))
    return result


def _multiply(given: Tensor, func: Any, args: tuple[Any, ...]) -> Tensor:
    """The product of what can be computed again and a gate, which it keeps."""
    result: Tensor = _use([given], func, args, {})
    source, other = recomputed(given), args[1] if args[0] is given else args[0]
    alike = (result.shape, result.dtype) == (given.shape, given.dtype)
    if source is None or not alike or not isinstance(other, Tensor):
        return result
    again, held, first = Again(func, args[:1], {}), Held(other), args[0] is given

    def make() -> Tensor:
        value = source.get()
        return again(value, held.tensor()) if first else again(held.tensor(), value)

    note(result, Recomputed(make, result, source, source.sums))
    return result


def _use(given: list[Tensor], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of a function that may keep what can be computed again."""
    packing = Packing(given)
    result = packing.run(func, args, kwargs)
    packing.close()
    for base in given if isinstance(result, Tensor) else ():
        source = recomputed(base)
        if result is not base and source is not None and same_memory(result, base):
            note(result, _view(result, source))
    return result


def _view(view: Tensor, source: Recomputed) -> Recomputed:
    """How a view of what is computed again is computed again."""
    shape, stride, offset = view.shape, view.stride(), view.storage_offset() - source.offset
    return Recomputed(
        lambda: placed(source.get(), shape, stride, offset), view, source, source.sums
    )


_WAYS: dict[Any, Callable[[BatchNorm], Callable[[], Tensor]]] = {}
"""How the results of batch norms are computed again, by what they are given."""


def _verified(norm: BatchNorm, result: Tensor) -> Callable[[], Tensor]:
    """Computes a batch norm's result again, in a way that was seen to give the same bits."""
    x, _ = norm.centered()
    if _has_no_data(x):
        return norm.in_one_pass()
    key = x.device, x.dtype, result.dtype, x.shape[1:], x.is_contiguous()
    if key not in _WAYS:
        ways = (BatchNorm.in_one_pass, BatchNorm.once_more)
        exact = [way for way in ways if _is_same(way(norm)(), result)]
        if not exact:
            raise TrainingError(
                f"a batch norm's result for inputs of {tuple(x.shape)} in {x.dtype} on {x.device} "
                "cannot be computed again bit for bit; train without recompute_norms"
            )
        _WAYS[key] = exact[0]
    return _WAYS[key](norm)


def _has_no_data(tensor: Tensor) -> bool:
    return isinstance(tensor, FakeTensor) or tensor.is_meta


def _is_same(found: Tensor, expected: Tensor) -> bool:
    same = found.stride() == expected.stride() and found.dtype == expected.dtype
    return same and torch.allclose(found, expected, rtol=0, atol=0, equal_nan=True)
