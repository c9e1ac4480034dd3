"""Keep the parts that do not train away from the device, with the state of their optimizers."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch.utils import _pytree

from fxtransport.errors import UsageError
from fxtransport.program import Part
from fxtransport.training.learner import Learner
from fxtransport.training.places import Place, Storage, copy_to
from fxtransport.training.schedules import Phase


@dataclass
class _Held:
    """A storage, and what of the run lies in it."""

    storage: Storage
    tensors: list[torch.Tensor] = field(default_factory=list)
    owners: set[int] = field(default_factory=set)
    """The parts whose tensors these are."""
    is_state: bool = False
    """Whether it holds the state of an optimizer only."""

    def move(self, storage: Storage) -> None:
        """Let the tensors lie in another storage, with the strides that they have."""
        for tensor in self.tensors:
            moved = torch.empty(0, dtype=tensor.dtype, device=storage.device)
            # the tensor stays the object that modules and optimizers hold
            tensor.data = moved.set_(
                storage, tensor.storage_offset(), tensor.size(), tensor.stride()
            )
        self.storage = storage


class Offload:
    """Moves parts between the device and the place where they rest.

    A part is on the device with the state of its optimizer while it trains, and alone while it
    is run by :meth:`visit`. Storages are moved, so that tensors which share memory go on sharing
    it.

    Args:
        device: Where parts train.
        place: Where they rest.
        parts: All parts of the program.
        learners: What trains each part, by its index.
    """

    def __init__(
        self,
        device: torch.device,
        place: Place,
        parts: Sequence[Part],
        learners: Mapping[int, Learner],
    ) -> None:
        self._device = device
        self._place = place
        self._parts = tuple(parts)
        self._learners = learners
        self._away: dict[int, Storage] = {}
        """State that was on the device before, by the address of its storage. State that an
        optimizer keeps on the CPU itself, such as a count of steps, is not in it."""

    def arrange(self, active: Collection[int]) -> None:
        """Bring parts to the device, after all others were moved away from it.

        Args:
            active: The parts that train from now on.

        Raises:
            CheckpointError: the others cannot be written.
        """
        held = self._held()
        leaving = [
            each
            for each in held
            if not each.owners.intersection(active) and self._should_leave(each)
        ]
        kept = self._place.keep([each.storage for each in leaving])
        for each, storage in zip(leaving, kept, strict=True):
            each.move(storage)
            if each.is_state:
                self._away[storage._cdata] = storage
        for each in held:
            if each.owners.intersection(active) and self._is_away(each):
                each.move(copy_to(each.storage, self._device))
        present = {each.storage._cdata for each in held}
        self._away = {key: storage for key, storage in self._away.items() if key in present}
        for k in active:
            if k in self._learners:
                self._learners[k].place_state()
        self._place.settle()

    def collect(self) -> None:
        """See that all parts are on the CPU."""
        if not self._place.serves(self._device):
            self.arrange(())

    def settle(self) -> None:
        """Free memory that reading what is away has taken, such as for a checkpoint."""
        self._place.settle()

    @contextmanager
    def visit(self, part: Part) -> Iterator[None]:
        """While active, a part is on the device to run without gradient; it may write buffers."""
        with self._visits([part]):
            yield

    @contextmanager
    def gather(self) -> Iterator[None]:
        """While active, all parts are on the device; parameters must not be written."""
        with self._visits(self._parts):
            yield

    @contextmanager
    def _visits(self, parts: Iterable[Part]) -> Iterator[None]:
        if self._place.serves(self._device):
            yield
            return
        written = {t.untyped_storage()._cdata for part in parts for t in part.buffers()}
        away = [each for each in _group(enumerate(map(_tensors, parts))) if self._is_away(each)]
        homes = [each.storage for each in away]
        for each in away:
            each.move(copy_to(each.storage, self._device))
        try:
            yield
        finally:
            for each, home in zip(away, homes, strict=True):
                visited = each.storage
                each.move(home)
                if home._cdata in written:
                    home.copy_(visited)

    def _should_leave(self, held: _Held) -> bool:
        if held.is_state and held.storage.device != self._device:
            return False
        return not self._place.holds(held.storage)

    def _is_away(self, held: _Held) -> bool:
        if held.is_state:
            return held.storage._cdata in self._away
        return held.storage.device != self._device or self._place.holds(held.storage)

    def _held(self) -> list[_Held]:
        """All storages of the parts and of their optimizers."""
        owned: list[tuple[int, Sequence[torch.Tensor]]] = [
            *((k, _tensors(part)) for k, part in enumerate(self._parts)),
            *((k, learner.extra) for k, learner in self._learners.items()),
        ]
        held = _group(owned)
        known = {each.storage._cdata for each in held}
        states = _group((k, _state(learner)) for k, learner in self._learners.items())
        for each in states:
            each.is_state = True
        return [*held, *(each for each in states if each.storage._cdata not in known)]


def check_offloadable(phases: Sequence[Phase], parts: int, schedule: object) -> None:
    """Refuse a schedule of which every phase trains all parts.

    Args:
        phases: The phases of the schedule.
        parts: The number of parts.
        schedule: The schedule, for the error.

    Raises:
        UsageError: no part ever rests.
    """
    if any(len(phase.parts) < parts for phase in phases):
        return
    raise UsageError(
        f"offload moves parts away that do not train, and with {schedule} each part of this "
        "program trains in every step; train a program of several parts with Sequential or "
        "MultiLap, or without offload"
    )


def _tensors(part: Part) -> list[torch.Tensor]:
    return [*part.parameters(), *part.buffers()]


def _state(learner: Learner) -> list[torch.Tensor]:
    """The tensors of an optimizer's state; of a wrapped optimizer too."""
    leaves = _pytree.tree_leaves(learner.optimizer.state_dict()["state"])
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _group(owned: Iterable[tuple[int, Iterable[torch.Tensor]]]) -> list[_Held]:
    """Tensors by their storage; what has no bytes, or is not dense, is not moved."""
    found: dict[int, _Held] = {}
    for owner, tensors in owned:
        for tensor in tensors:
            if tensor.layout is not torch.strided or not tensor.untyped_storage().nbytes():
                continue
            storage = tensor.untyped_storage()
            held = found.setdefault(storage._cdata, _Held(storage))
            held.tensors.append(tensor)
            held.owners.add(owner)
    return list(found.values())
