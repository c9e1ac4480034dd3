"""What a training step of any range of stretches holds, from a step of the whole.

A part that runs from one point to another makes the same storages as the whole does there. What
differs are its ends: its input comes from outside and needs no gradient, its output is handed on,
and its head begins the backward pass.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fxtransport.analysis.bottleneck import Matrix
from fxtransport.ir import Boundary, Crossing, HeadMemory, TrainingMemory

Curve = NDArray[np.int64]


class RangePeak(NamedTuple):
    """The peak of a part's step, in bytes beside what is held all along."""

    size: int
    activations: int
    gradients: int
    temporaries: int
    heads: int


class Ranges:
    """The steps of all ranges between points 0 … M.

    Args:
        memory: The step of the whole.
    """

    def __init__(self, memory: TrainingMemory) -> None:
        self.memory = memory
        self.points = len(memory.crossing)
        held = memory.held
        self._size = np.array([h.size for h in held], dtype=np.int64)
        self._born = np.array([h.born for h in held], dtype=np.int64)
        self._freed = np.array([h.freed for h in held], dtype=np.int64)
        self._stretch = np.array([h.stretch for h in held], dtype=np.int64)
        self._backward = np.array([h.backward for h in held], dtype=np.bool_)
        self._gradient = np.array([h.gradient for h in held], dtype=np.bool_)
        self._end = max([0, *(last for _, last in (*memory.forwards, *memory.backwards))])
        self._inner = np.zeros(self._end + 2, dtype=np.int64)
        for time, size in memory.inner.items():
            self._inner[time] = size

    def _curve(self, chosen: NDArray[np.bool_]) -> Curve:
        """The bytes of some storages that are held while each operator runs."""
        changes = np.zeros(self._end + 2, dtype=np.int64)
        np.add.at(changes, self._born[chosen], self._size[chosen])
        np.add.at(changes, np.minimum(self._freed[chosen], self._end) + 1, -self._size[chosen])
        return changes.cumsum()

    @cached_property
    def _forward_from(self) -> list[Curve]:
        """What the forwards from each stretch on have made."""
        return [self._curve(~self._backward & (self._stretch >= i)) for i in range(self.points)]

    @cached_property
    def _gradients_to(self) -> list[Curve]:
        """The gradients of the parameters of the stretches before each point."""
        return [self._curve(self._gradient & (self._stretch < j)) for j in range(self.points)]

    @cached_property
    def _whole_flow(self) -> Curve:
        """What the backward pass makes beside gradients of parameters."""
        return self._curve(self._backward & ~self._gradient) + self._inner

    @cached_property
    def _flow(self) -> list[Curve]:
        """The same of parts, by the first stretch.

        A part needs no gradient of its input. What only leads there is not made, and what leads
        there too is freed after its last use inside.
        """
        return [
            self._whole_flow + self._not_made(first, last).cumsum()
            for first, last in self.memory.backwards
        ]

    def _not_made(self, first: int, last: int) -> NDArray[np.int64]:
        """What a part does not hold whose first stretch has its backward at these times.

        Backwards in time: an operator does not run if nothing needs what it makes, and what only
        such operators read is not needed either.
        """
        changes = np.zeros(self._end + 2, dtype=np.int64)
        here = (self._born <= last) & (self._freed >= first) & self._backward
        made: dict[int, list[int]] = {}
        for number in np.flatnonzero(here).tolist():
            made.setdefault(int(self._born[number]), []).append(number)
        idle: set[int] = set()
        for time in sorted(made, reverse=True):
            needed, inner = False, int(self._inner[time])
            for k in made[time]:
                read = [t for t in self.memory.held[k].used if t in made and t <= last]
                until = max([t for t in read if t not in idle], default=time - 1)
                leads_out = self._freed[k] > last or any(t in idle for t in read)
                if self._gradient[k] or not leads_out:
                    needed = True
                    continue
                needed |= until >= time
                inner = inner if until >= time else self.memory.inner_alone.get(time, inner)
                changes[until + 1] -= self._size[k]
                changes[min(int(self._freed[k]), self._end) + 1] += self._size[k]
            if not needed:
                idle.add(time)
            less = int(self._inner[time]) - (inner if needed else 0)
            changes[time] -= less
            changes[time + 1] += less
        return changes

    @cached_property
    def peaks(self) -> Matrix:
        """The peak of the part from point i to point j, at [i, j], with its head."""
        found = np.zeros((self.points, self.points), dtype=np.int64)
        for i in range(self.points):
            for j in range(i + 1, self.points):
                found[i, j] = self.peak(i, j).size
        return found

    def peak(self, i: int, j: int) -> RangePeak:
        """The peak of the part from point i to point j."""
        head = head_of(self.memory, i, j)
        moments = [self.forward(i, j), self.at_head(i, j, head), self.backward(i, j, head)]
        return max([*moments, self.optimizer(i, j, head)], key=lambda found: found.size)

    def left_by(self, i: int, j: int) -> int:
        """The bytes that the forward from point i to point j keeps for its own backward pass.

        What the stretches after it are given is not counted, unless it is kept longer than by them.
        """
        last, start = self.memory.forwards[j - 1][1], self.memory.backwards[j - 1][0]
        handed_on = np.zeros(len(self._size), dtype=np.bool_)
        handed_on[[c.storage for c in self.memory.crossing[j] if c.storage >= 0]] = True
        kept = ~self._backward & (self._stretch >= i) & (self._born <= last)
        kept &= np.where(handed_on, self._freed > start, self._freed > last)
        entered = (c for c in self._entering(i, j) if any(i <= s < j for s in c.savers))
        return int(self._size[kept].sum()) + sum(c.size for c in entered)

    def parameters(self, i: int, j: int) -> Mapping[str, int]:
        """The bytes of each parameter that the part trains, by name."""
        return {k: v for each in self.memory.parameters[i:j] for k, v in each.items()}

    def _entering(self, i: int, j: int) -> list[Crossing]:
        """What the part reads and does not hand on."""
        handed_on = {c.storage for c in self._leaving(j)}
        return [c for c in self.memory.crossing[i] if c.storage not in handed_on]

    def _leaving(self, j: int) -> tuple[Crossing, ...]:
        return self.memory.crossing[j] if j < self.points - 1 else ()

    def _passing(self, i: int, j: int) -> int:
        """Bytes of what the part hands on as it was given it."""
        return sum(c.size for c in self._leaving(j) if self._is_from_before(c, i))

    def _is_from_before(self, crossing: Crossing, i: int) -> bool:
        return crossing.storage < 0 or int(self._stretch[crossing.storage]) < i

    def forward(self, i: int, j: int) -> RangePeak:
        """The peak of the forward from point i to point j."""
        first, last = self.memory.forwards[i][0], self.memory.forwards[j - 1][1]
        curve = self._forward_from[i][first : last + 1] + self._inner[first : last + 1]
        if not len(curve):
            return RangePeak(0, 0, 0, 0, 0)
        time = first + int(curve.argmax())
        total = int(curve.max())
        start = self.memory.forwards[-1][1]
        alive = ~self._backward & (self._stretch >= i) & (self._born <= time)
        saved = int(self._size[alive & (self._freed > start)].sum())
        given = sum(c.size for c in self._entering(i, j)) + self._passing(i, j)
        saved = min(saved, total)
        return RangePeak(total + given, saved + given, 0, total - saved, 0)

    def at_head(self, i: int, j: int, head: HeadMemory) -> RangePeak:
        """While the head runs: all that the forward has left."""
        last = self.memory.forwards[j - 1][1]
        alive = ~self._backward & (self._stretch >= i) & (self._born <= last)
        left = int(self._size[alive & (self._freed > last)].sum())
        left += sum(c.size for c in self._entering(i, j)) + self._passing(i, j)
        return RangePeak(left + head.run, left, 0, 0, head.run)

    def backward(
        self, i: int, j: int, head: HeadMemory, start: int | None = None, *, inside: bool = False
    ) -> RangePeak:
        """The peak of the backward pass of the part from point i to point j.

        Args:
            i: Where the part begins.
            j: Where it ends.
            head: Its head.
            start: The point from which on backwards its pass counts; the end by default.
            inside: Whether the part goes on before point i, so that gradients are needed there.
        """
        start = j if start is None else start
        first, last = self.memory.backwards[start - 1][0], self.memory.backwards[i][1]
        if first > last:
            return RangePeak(0, 0, 0, 0, 0)
        times = slice(first, last + 1)
        saved = self._forward_from[i][times].copy()
        for each in self._leaving(j):
            if self._is_from_before(each, i):
                saved += each.size
                continue
            freed = int(self._freed[each.storage])
            saved[max(0, freed + 1 - first) :] += each.size
        for each in self._entering(i, j):
            savers = [s for s in each.savers if i <= s < j]
            if savers:
                until = self.memory.backwards[savers[0]][1]
                saved[: max(0, until + 1 - first)] += each.size
        gradients = self._gradients_to[j][times]
        flow = (self._whole_flow if inside else self._flow[i])[times]
        total = saved + gradients + flow
        at = int(total.argmax())
        size = int(total[at]) + head.gradients
        return RangePeak(size, int(saved[at]), int(gradients[at]), int(flow[at]), head.gradients)

    def optimizer(self, i: int, j: int, head: HeadMemory) -> RangePeak:
        """While the optimizer makes its step."""
        trained = self.parameters(i, j).values()
        optimizer = self.memory.optimizer
        largest = max([head.largest, *trained])
        every = sum(trained) + head.gradients
        temporaries = int(optimizer.temporaries * (every if optimizer.of_all else largest))
        left = sum(c.size for c in self._leaving(j))
        gradients = sum(trained)
        size = gradients + head.gradients + temporaries + left
        return RangePeak(size, left, gradients, temporaries, head.gradients)


def points_of(memory: TrainingMemory, cuts: Sequence[Boundary]) -> list[int]:
    """The points of the start, of cuts in order, and of the end."""
    index = {after: k + 1 for k, after in enumerate(memory.ends)}
    return [0, *(index[cut.after] for cut in cuts), len(memory.ends) + 1]


def partition_peaks(memory: TrainingMemory, cuts: Sequence[Boundary]) -> list[int]:
    """What training holds while each part trains, at its peak, in bytes."""
    points, ranges = points_of(memory, cuts), Ranges(memory)
    pairs = list(pairwise(points))
    always = static_bytes(memory) + head_fees(memory, pairs)
    return [always + ranges.peak(i, j).size for i, j in pairs]


def static_bytes(memory: TrainingMemory) -> int:
    """What is held all along, without heads: the model, its optimizers' state, the batch."""
    return memory.model + memory.state + memory.batch


def head_of(memory: TrainingMemory, i: int, j: int) -> HeadMemory:
    """The head of the part from point i to point j; the last part has none of its own."""
    return memory.heads[j - 1][i] if j <= len(memory.heads) else HeadMemory()


def head_fees(memory: TrainingMemory, parts: Iterable[tuple[int, int]]) -> int:
    """What the heads of parts between points hold all along."""
    heads = [head_of(memory, i, j) for i, j in parts]
    return sum(head.parameters + head.state for head in heads)
