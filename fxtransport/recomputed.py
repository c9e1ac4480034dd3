"""Tensors that autograd does not keep, since they can be computed again."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fxtransport.errors import TrainingError

_NAME = "_fxtransport_recomputed"
"""The attribute of a tensor that says how it is computed again."""


class Recomputed:
    """A tensor that is not kept, but computed again for those that need it.

    Args:
        make: Computes it, in new memory.
        like: The tensor.
        source: What ``make`` asks for; None if nothing that is computed again.
        sums: How many sums it is computed from, one after the other.
    """

    def __init__(
        self,
        make: Callable[[], Tensor],
        like: Tensor,
        source: "Recomputed | None" = None,
        sums: int = 0,
    ) -> None:
        self._make = make
        self._source = source
        self.sums = sums
        self.dtype, self.shape, self.stride = like.dtype, like.shape, like.stride()
        self.offset = like.storage_offset()
        self._value: Tensor | None = None
        self._users = self._waiting = 0

    def add_user(self) -> None:
        """One more will ask for it in the backward pass."""
        if not self._users and self._source is not None:
            self._source.add_user()
        self._users += 1
        self._waiting += 1

    def compute(self) -> Tensor:
        """The tensor, for no user."""
        return self._make()

    def get(self, *, overwrites: bool = False) -> Tensor:
        """The tensor, which is held until the last of its users has asked for it.

        Args:
            overwrites: Whether the user overwrites it.
        """
        value = self._make() if self._value is None else self._value
        self._waiting -= 1
        self._value = value if self._waiting > 0 else None
        if self._waiting <= 0:
            self._waiting = self._users  # a graph that is retained asks again
        return value.clone() if overwrites and self._value is not None else value


def recomputed(tensor: Any) -> Recomputed | None:
    """How a tensor is computed again, if that is known."""
    found: Recomputed | None = getattr(tensor, _NAME, None)
    return found


def note(tensor: Tensor, how: Recomputed) -> None:
    """Note how a tensor is computed again."""
    setattr(tensor, _NAME, how)


def forget(tensor: Tensor) -> None:
    """Note of a tensor that was overwritten that it cannot be computed again."""
    delattr(tensor, _NAME)


class Kept:
    """What autograd keeps in the place of a tensor that lies in the memory of a recomputed one.

    Args:
        source: The recomputed one.
        tensor: What autograd wants to keep.
    """

    def __init__(self, source: Recomputed, tensor: Tensor) -> None:
        source.add_user()
        self._source = source
        self._geometry: tuple[Any, ...] | None = None
        if (tensor.shape, tensor.stride()) != (source.shape, source.stride):
            offset = tensor.storage_offset() - source.offset
            self._geometry = tensor.shape, tensor.stride(), offset

    def tensor(self) -> Tensor:
        """The tensor, computed again."""
        value = self._source.get()
        return value if self._geometry is None else placed(value, *self._geometry)


def placed(value: Tensor, shape: Any, stride: Any, offset: Any) -> Tensor:
    """What lies in the memory of a tensor, ``offset`` elements after its beginning."""
    return value.as_strided(shape, stride, offset + value.storage_offset())


class Packing:
    """Decides what autograd keeps while a function runs.

    Autograd holds on to it for as long as it keeps what was packed, so at the end it lets go of
    tensors.

    Args:
        given: Tensors of which it is known how they are computed again.
    """

    def __init__(self, given: Sequence[Tensor]) -> None:
        self._given = [(tensor, tensor._version, getattr(tensor, _NAME)) for tensor in given]
        self._others: list[list[Tensor | Kept]] = []

    def pack(self, tensor: Tensor) -> Any:
        """What is kept of a tensor: how it is computed again, or a list with the tensor."""
        for base, version, source in self._given:
            if same_memory(tensor, base) and base._version == version:
                return Kept(source, tensor)
        self._others.append([tensor])
        return self._others[-1]

    @staticmethod
    def unpack(kept: Any) -> Tensor:
        """The tensor."""
        (content,) = kept if isinstance(kept, list) else (kept,)
        found: Tensor = content.tensor() if isinstance(content, Kept) else content
        return found

    def give_up(self, which: Callable[[Tensor], bool], source: Recomputed) -> None:
        """Keep no such tensors either, which are what a source computes again."""
        for kept in self._others:
            (tensor,) = kept
            if isinstance(tensor, Tensor) and which(tensor):
                kept[0] = Kept(source, tensor)

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the function returns."""
        with torch.autograd.graph.saved_tensors_hooks(self.pack, self.unpack):
            return func(*args, **kwargs)

    def close(self) -> None:
        """Let go of tensors; note of those that were overwritten that they cannot be used."""
        for tensor, version, source in self._given:
            if tensor._version != version and recomputed(tensor) is source:
                forget(tensor)
        self._given, self._others = [], []


def same_memory(one: Tensor, other: Tensor) -> bool:
    """Whether tensors of one dtype lie in the same memory."""
    return one.dtype == other.dtype and (
        one.untyped_storage()._cdata == other.untyped_storage()._cdata
    )


class Held:
    """A tensor that autograd keeps anyway.

    Args:
        tensor: The tensor, as it is now.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._version = tensor.detach(), tensor._version

    def tensor(self) -> Tensor:
        """The tensor.

        Raises:
            TrainingError: it was overwritten since.
        """
        if self._tensor._version != self._version:
            raise TrainingError(
                f"a tensor of {tuple(self._tensor.shape)} was overwritten after a norm, an "
                "activation or a sum had read it, so that their results cannot be computed again; "
                "train without recompute_norms"
            )
        return self._tensor


class Again:
    """A function as it was called, in the precision of then, of other tensors at its beginning."""

    def __init__(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._func, self._args, self._kwargs = func, (None, *args[1:]), kwargs
        kind = args[0].device.type
        enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        self._precision = kind, dtype, enabled, False

    def __call__(self, *first: Tensor) -> Tensor:
        """What it returns now."""
        with torch.no_grad(), torch.autocast(*self._precision):
            result: Tensor = self._func(*first, *self._args[len(first) :], **self._kwargs)
        return result
