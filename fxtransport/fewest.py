"""How few residual blocks must be computed again for a partition to fit a budget of memory."""

from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fxtransport.analysis.bottleneck import Goal, Heaviest, Steps, Total, best_cuts
from fxtransport.analysis.ranges import head_fees, points_of, static_bytes
from fxtransport.analysis.recomputing import Recomputing
from fxtransport.ir import Balance, Boundary
from fxtransport.planner import Planner
from fxtransport.training.memory import StepMemory

_ROUNDS = 5
"""The most rehearsals of one partition."""
_PARTITIONS = 2
"""The most partitions that are chosen by prediction."""


class Choice(NamedTuple):
    """A partition, how many blocks of each part are computed again, and what that takes."""

    cuts: tuple[Boundary, ...]
    counts: tuple[int, ...]
    memory: StepMemory
    flops: int
    """Of a step."""


class Fewest:
    """Chooses which blocks are computed again.

    Args:
        planner: One that may choose.
        limit: Bytes that the peak must not exceed.
        known: The cuts of a partition that fits if every block is computed again.
        peak: What training by it then holds at its peak, in bytes.
    """

    def __init__(
        self, planner: Planner, limit: int, known: tuple[Boundary, ...], peak: int
    ) -> None:
        self._planner = planner
        self._limit = limit
        self._known = known
        pairs = pairwise(points_of(planner.memory, known))
        predicted = max(self._recomputing.peak(i, j, len(planner.blocks)) for i, j in pairs)
        # a teacher, say, is not in the prediction
        self._beside = peak - self._always(known) - predicted

    @cached_property
    def _recomputing(self) -> Recomputing:
        planner = self._planner
        ends = planner.line.boundaries
        before = [planner.blocks_of((end,))[0] for end in ends]
        before = [0, *before, len(planner.blocks)]
        return Recomputing(planner.memory, planner.plain_memory, before)

    def _always(self, cuts: tuple[Boundary, ...]) -> int:
        """What is held all along, in bytes."""
        memory, pieces = self._planner.memory, self._planner.training.settings.accumulate
        fees = head_fees(memory, pairwise(points_of(memory, cuts)))
        return static_bytes(memory) + memory.batch * (pieces - 1) + fees

    def choose(self) -> Choice | None:
        """What fits with the fewest operations, by rehearsal; None if nothing was found to."""
        tried: dict[tuple[Boundary, ...], Choice | None] = {}
        while len(tried) < _PARTITIONS and (cuts := self.cuts()) not in tried:
            tried[cuts] = self.counts(cuts)
        if not any(tried.values()) and self._known not in tried:
            tried[self._known] = self.counts(self._known)
        found = [choice for choice in tried.values() if choice is not None]
        return min(found, key=lambda choice: choice.flops, default=None)

    def counts(self, cuts: tuple[Boundary, ...]) -> Choice | None:
        """The fewest blocks of each part with which a partition fits, by rehearsal.

        What predictions leave out is taken note of for the next partition.

        Args:
            cuts: Between the parts.

        Returns:
            None if it was not found to fit.
        """
        planner, limit = self._planner, self._limit
        pairs, every = [*pairwise(points_of(planner.memory, cuts))], planner.blocks_of(cuts)
        always = self._always(cuts)
        beside = [self._beside] * len(pairs)
        tried: dict[tuple[int, ...], StepMemory] = {}
        while len(tried) < _ROUNDS:
            found = [
                self._recomputing.fewest(i, j, limit - always - more)
                for (i, j), more in zip(pairs, beside, strict=True)
            ]
            counts = tuple(
                most if count is None else count for count, most in zip(found, every, strict=True)
            )
            if counts in tried:
                break
            memory = tried[counts] = planner.measure(cuts, counts)
            beside = [
                peak - always - self._recomputing.peak(i, j, count)
                for peak, (i, j), count in zip(memory.parts, pairs, counts, strict=True)
            ]
            self._beside = max(self._beside, *beside)
        fitting = [
            Choice(cuts, counts, memory, planner.flops_of(cuts, counts))
            for counts, memory in tried.items()
            if memory.peak_bytes <= limit
        ]
        return min(fitting, key=lambda choice: choice.flops, default=None)

    def cuts(self) -> tuple[Boundary, ...]:
        """The cuts of the partition of fewest operations, into as many parts, by prediction."""
        planner, modules = self._planner, len(self._known) + 1
        line = planner.line
        steps = line.steps(Balance.MEMORY)
        again, fits = self._operations(
            steps, self._limit - self._always(self._known) - self._beside
        )
        steps = steps & fits
        if modules == 1 or not _leads_through(steps, modules):
            return self._known
        operations = 3 * line.cost(Balance.FLOPS) + again
        goals: list[Goal] = [
            Total(operations),
            Heaviest(line.cost(Balance.MEMORY)),
            Total(line.cut_penalty(planner.unit, modules)),
        ]
        return tuple(line.boundaries[p - 1] for p in best_cuts(steps, modules, goals))

    def _operations(self, steps: Steps, limit: int) -> tuple[NDArray[np.int64], Steps]:
        """What each part computes again at least, in FLOPs of a sample, and whether it fits."""
        planner, recomputing = self._planner, self._recomputing
        until = [0, *accumulate(block.flops for block in planner.blocks)]
        again, fits = np.zeros(steps.shape, dtype=np.int64), np.zeros_like(steps)
        for i, j in np.argwhere(steps).tolist():
            count = recomputing.fewest(i, j, limit)
            if count is not None:
                start = recomputing.before[i]
                fits[i, j], again[i, j] = True, until[start + count] - until[start]
        return again, fits


def _leads_through(steps: Steps, parts: int) -> bool:
    """Whether that number of steps can lead from the first point to the last."""
    here = {0}
    for _ in range(parts):
        here = {int(j) for i in here for j in np.flatnonzero(steps[i])}
    return len(steps) - 1 in here
