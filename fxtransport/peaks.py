"""What tensors hold in memory while operators run: every storage, from its birth to its end.

Storages are followed by weak references, so that nothing lives longer than it would. On fake
tensors, which have shapes, a device and no data, nothing is allocated.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fxtransport.cpu_kernels import kernel_workspace, without_input_gradient

CUDA_BLOCK = 512
"""Bytes. The CUDA allocator hands out multiples of it, and counts these."""


@dataclass(eq=False)
class Held:
    """A storage, and when it was held. Times count operators."""

    size: int
    """Bytes."""
    born: int
    """The operator that made it; 0: it was there before."""
    place: Any
    """What ran when it was made."""
    backward: bool
    """Whether it was made in a backward pass."""
    kind: str = ""
    """What it is for, where that is known."""
    freed: int | None = None
    """The last operator while which it was held; None: it still is."""
    used: list[int] = field(default_factory=list)
    """The operators of backward passes that read it, if it was made in one."""

    def is_held_at(self, time: int) -> bool:
        """Whether it is held while an operator runs."""
        return self.born <= time and (self.freed is None or time <= self.freed)


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    return func(*args, **kwargs)


@dataclass
class MemoryLog(TorchDispatchMode):
    """Books every storage that operators make while it is active."""

    supports_higher_order_operators = True

    run: Callable[[Any, Any, dict[str, Any]], Any] = _call
    """Runs an operator."""
    answers: bool = True
    """Whether a number that code asks of a tensor without data is 1; otherwise it is refused."""
    replaying: bool = False
    """Whether a backward pass runs without autograd's engine. Set from outside."""
    place: Any = None
    """What runs now: booked with each storage. Set from outside."""
    time: int = 0
    """The number of operators that ran."""
    found: list[Held] = field(default_factory=list)
    """All storages, in order."""
    backwards: list[int] = field(default_factory=list)
    """The first operator of each backward pass."""
    inner: dict[int, int] = field(default_factory=dict)
    """Bytes that an operator holds only while it runs, by its number."""
    inner_alone: dict[int, int] = field(default_factory=dict)
    """The same of operators whose gradient of the input is left out, where that differs."""

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._held: dict[int, tuple[weakref.ref[Any], Held]] = {}
        self._pass = -1

    def add(self, tensors: Iterable[torch.Tensor], kind: str = "") -> None:
        """Book tensors that are there already."""
        for tensor in tensors:
            self.held(tensor).kind = kind

    def held(self, tensor: torch.Tensor) -> Held:
        """The entry of a tensor's storage, which is made if there is none."""
        storage = tensor.untyped_storage()
        known = self._held.get(storage._cdata)
        if known is not None and known[0]() is not None:
            return known[1]
        return self._book(storage, tensor.device.type, self._pass != -1)

    def _book(self, storage: Any, device: str, backward: bool) -> Held:
        size = storage.nbytes()
        if device == "cuda":
            size = -(-size // CUDA_BLOCK) * CUDA_BLOCK
        number = storage._cdata
        held = Held(size, self.time, self.place, backward)

        def end(_: Any) -> None:
            held.freed = self.time
            if self._held.get(number, (None, None))[1] is held:
                del self._held[number]

        self._held[number] = (weakref.ref(storage, end), held)
        self.found.append(held)
        return held

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.time += 1
        running = _REPLAY if self.replaying else torch._C._current_graph_task_id()
        if running != self._pass:
            self._pass = running
            if running != -1:
                self.backwards.append(self.time)
        asks = func is torch.ops.aten._local_scalar_dense.default and self.answers
        if asks and _has_no_data(args[0]):
            return _ones[args[0].dtype.is_floating_point]
        out = self.run(func, args, kwargs or {})
        self._book_inner(func, args)
        if running != -1:
            self._book_use(args)
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            known = self._held.get(storage._cdata)
            if known is None or known[0]() is None:
                self._book(storage, tensor.device.type, running != -1)
        return out

    def _book_inner(self, func: Any, args: Any) -> None:
        """Know what an operator holds while it runs."""
        first = next(_tensors(args), None)
        inner = alone = _made_inside(func, args)
        if first is not None and first.device.type == "cpu":
            inner += kernel_workspace(func, args)
            without = without_input_gradient(func, args)
            alone = inner if without is args else alone + kernel_workspace(func, without)
        if inner:
            self.inner[self.time] = inner
        if alone != inner:
            self.inner_alone[self.time] = alone

    def _book_use(self, args: Any) -> None:
        """Know which gradients are read until when."""
        for tensor in _tensors(args):
            known = self._held.get(tensor.untyped_storage()._cdata)
            if known is not None and known[1].backward:
                known[1].used.append(self.time)

    def curve(self) -> list[int]:
        """The bytes that are held while each operator runs, by its number."""
        changes = [0] * (self.time + 2)
        for held in self.found:
            changes[held.born] += held.size
            if held.freed is not None:
                changes[held.freed + 1] -= held.size
        now, levels = 0, []
        for time, change in enumerate(changes[:-1]):
            now += change
            levels.append(now + self.inner.get(time, 0))
        return levels


_REPLAY = -2
"""Stands for the number that the engine gives a backward pass."""
_ones = {True: 1.0, False: 1}


def _made_inside(func: Any, args: Any) -> int:
    """Bytes that an operator makes of tensors of its own while it runs, on any device."""
    match func:
        case torch.ops.aten._euclidean_dist.default:
            # of each matrix a copy, with a column of norms and one of ones
            sizes = (x.numel() // x.shape[-1] * (x.shape[-1] + 2) * x.itemsize for x in args[:2])
            return int(sum(sizes))
        case torch.ops.aten.roll.default if len(args) > 2:
            # one dimension after the other
            return max(0, len(args[2]) - 1) * int(args[0].numel()) * int(args[0].itemsize)
        case torch.ops.aten.mse_loss.default:
            # every square, and as much again for what becomes their mean
            return 2 * int(args[0].numel()) * int(args[0].itemsize)
    return 0


def _has_no_data(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, torch._subclasses.FakeTensor) or tensor.is_meta


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)
