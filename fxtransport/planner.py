"""What training a model holds in memory for any partition, and which partitions fit a budget."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from fxtransport.analysis.blocks import Block, block_regions, repeatable_blocks
from fxtransport.analysis.choosing import Chooser
from fxtransport.analysis.hand_cuts import place_cuts
from fxtransport.analysis.line import Line
from fxtransport.analysis.ranges import Ranges, head_fees, points_of, static_bytes
from fxtransport.analysis.segments import plan_heads
from fxtransport.compiler import program_of
from fxtransport.errors import PartitionError
from fxtransport.ir import Amp, Balance, Boundaries, Boundary, Costs, TrainingMemory
from fxtransport.objectives import Objective
from fxtransport.passes.base import Pass
from fxtransport.passes.boundaries import FindBoundaries
from fxtransport.passes.lower import Lower
from fxtransport.passes.memory import CountMemory
from fxtransport.passes.partition import Partition
from fxtransport.passes.pipeline import run_passes
from fxtransport.program import Program
from fxtransport.program_options import configure_passes
from fxtransport.submodule import Target
from fxtransport.training import (
    EndToEnd,
    OptimizerSettings,
    Schedule,
    TrainerSettings,
    Transfer,
)
from fxtransport.training.memory import MemoryKind, StepMemory, step_memory
from fxtransport.unit import Unit


@dataclass(frozen=True)
class Training:
    """How a program is to be trained."""

    objective: Callable[[int], Objective]
    """What K parts minimize."""
    schedule: Schedule
    """That of several parts."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    settings: TrainerSettings = field(default_factory=TrainerSettings)
    device: str = "cpu"
    transfer: Callable[[Program], Transfer | None] = lambda _: None
    """What a program is kept near to."""
    whole: Callable[[int], Objective] | None = None
    """What the whole minimizes, end to end; what the parts do if None."""


@dataclass(frozen=True)
class Row:
    """A partition, and what training by it holds."""

    modules: int
    balance: Balance
    cuts: tuple[Boundary, ...]
    peak_bytes: int
    kinds: Mapping[MemoryKind, int]
    """What the peak consists of, in bytes."""
    flops: int
    """Floating-point operations of one training step, heads included."""


class Planner:
    """What training holds, for one model and batch size.

    A step of the whole is rehearsed without data, once. That of any part follows from it, so
    that all partitions can be compared; single ones can be measured.

    Args:
        target: The model, on any device; its weights do not matter.
        options: The options of programs, such as ``head``.
        training: How it is to be trained.
        batch_size: Samples in a batch.
        plain: The planner that computes nothing again, of one that may choose how many residual
            blocks are.
    """

    def __init__(
        self,
        target: Target,
        options: Mapping[str, Any],
        training: Training,
        batch_size: int,
        plain: "Planner | None" = None,
    ) -> None:
        self.target = target
        self.training = training
        self.batch_size = batch_size
        self.plain = plain
        self.options = {
            **options,
            "modules": 1,
            "cuts": (),
            "balance": Balance.MEMORY.value,
            "batch_size": -(-batch_size // training.settings.accumulate),
            "optimizer": training.optimizer.name,
            "amp": training.settings.amp or Amp.NONE.value,
        }

    def at(self, batch_size: int) -> "Planner":
        """A planner for another batch size."""
        plain = None if self.plain is None else self.plain.at(batch_size)
        return Planner(self.target, self.options, self.training, batch_size, plain)

    @property
    def checkpoints(self) -> bool:
        """Whether residual blocks are computed again in the backward pass."""
        return self.training.settings.checkpoint_activations

    @property
    def recomputes(self) -> bool:
        """Whether norms and activations are computed again in the backward pass."""
        return self.training.settings.recompute_norms

    @cached_property
    def recomputing(self) -> "Planner | None":
        """A planner that computes norms and activations again.

        None where this one does, where Inductor decides, and where it saves nothing end to end.
        """
        settings = self.training.settings
        if self.recomputes or settings.compile is not None or self.checkpoints:
            return None
        training = replace(self.training, settings=replace(settings, recompute_norms=True))
        found = Planner(self.target, self.options, training, self.batch_size)
        saves = found.end_to_end.peak_bytes < self.end_to_end.peak_bytes
        return found if saves else None

    @cached_property
    def checkpointing(self) -> "Planner | None":
        """A planner that computes residual blocks again; None where none can be, or this does."""
        if self.checkpoints or not block_regions(self.unit):
            return None
        settings = replace(self.training.settings, checkpoint_activations=True)
        training = replace(self.training, settings=settings)
        return Planner(self.target, self.options, training, self.batch_size, self)

    @cached_property
    def unit(self) -> Unit:
        """The model with all that the compiler knows."""
        passes = [self._configured(step) for step in configure_passes(self.options)]
        return run_passes(Unit(self.target.model, self.target.example), passes)

    def _configured(self, step: Pass) -> Pass:
        match step:
            case FindBoundaries():
                return replace(step, within_blocks=not self.checkpoints)
            case CountMemory():
                measures = self.training.objective(1).cost is not None
                return replace(
                    step,
                    measure=measures,
                    device=self.training.device,
                    checkpoint=self.checkpoints,
                    recompute=self.recomputes,
                )
        return step

    @cached_property
    def memory(self) -> TrainingMemory:
        """What the step of the whole holds."""
        return self.unit.fact(TrainingMemory)

    @cached_property
    def plain_memory(self) -> TrainingMemory:
        """The same of a step that computes nothing again, with at least the points of this one."""
        if not self.checkpoints:
            return self.memory
        if self.plain is not None and {*self.memory.ends} <= {*self.plain.memory.ends}:
            return self.plain.memory
        steps = (self._configured(step) for step in configure_passes(self.options))
        counting = next(step for step in steps if isinstance(step, CountMemory))
        return replace(counting, checkpoint=False).run(self.unit).fact(TrainingMemory)

    @cached_property
    def _ranges(self) -> Ranges:
        return Ranges(self.memory)

    @cached_property
    def _chooser(self) -> Chooser:
        return Chooser(self.unit)

    @property
    def line(self) -> Line:
        """All places to cut."""
        return self._chooser.every

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The residual blocks that can be computed again, in execution order."""
        return repeatable_blocks(self.unit)

    def blocks_of(self, cuts: Sequence[Boundary]) -> tuple[int, ...]:
        """How many of them each part of a partition has."""
        position = {node.name: i for i, node in enumerate(self.unit.traced().nodes)}
        ends = [position[block.end] for block in self.blocks]
        points = [-1, *(position[cut.after] for cut in cuts), len(position)]
        return tuple(sum(a < end <= b for end in ends) for a, b in pairwise(points))

    def most(self, balance: Balance = Balance.MEMORY) -> int:
        """The largest number of parts."""
        return self._chooser.most(balance)

    def rows(
        self, modules: int | None = None, balances: Sequence[Balance] = tuple(Balance)
    ) -> Iterator[Row]:
        """Every number of parts, or one, and every balance.

        Raises:
            PartitionError: there are too few places to cut into so many parts.
        """
        most = self.most()
        for count in range(2, most + 1) if modules is None else range(modules, modules + 1):
            for balance in balances if count > 1 else ():
                try:
                    yield self.row(count, balance)
                except PartitionError:
                    if count > most:
                        raise
                    # there are fewer places for this balance

    def row(self, modules: int, balance: Balance) -> Row:
        """The best partition into so many parts by a balance.

        Raises:
            PartitionError: there are too few places to cut.
        """
        cuts = self._chooser.choose(modules, balance).cuts
        return self._row(cuts, balance)

    def _row(self, cuts: tuple[Boundary, ...], balance: Balance) -> Row:
        memory, ranges = self.memory, self._ranges
        pairs = list(pairwise(points_of(memory, cuts)))
        peaks = [ranges.peak(i, j) for i, j in pairs]
        heaviest = max(range(len(peaks)), key=lambda k: peaks[k].size)
        peak = peaks[heaviest]
        fees = head_fees(memory, pairs)
        pieces = self.training.settings.accumulate
        kinds = {
            MemoryKind.PARAMETERS: memory.model,
            MemoryKind.GRADIENTS: peak.gradients,
            MemoryKind.OPTIMIZER: memory.state,
            MemoryKind.ACTIVATIONS: peak.activations + memory.batch * pieces,
            MemoryKind.TEMPORARIES: peak.temporaries,
            MemoryKind.HEADS: fees + peak.heads,
        }
        total = static_bytes(memory) + memory.batch * (pieces - 1) + fees + peak.size
        return Row(len(pairs), balance, cuts, total, kinds, self.flops_of(cuts))

    def flops_of(self, cuts: tuple[Boundary, ...], counts: Sequence[int] | None = None) -> int:
        """Of a step: the forward once, the backward twice as much, and what is computed again.

        Args:
            cuts: Between the parts.
            counts: How many blocks of each part are computed again; None: all or none.
        """
        own = sum(cost.flops for cost in self.unit.fact(Costs).nodes.values())
        heads = sum(cost.flops for cost in plan_heads(self.unit, cuts).costs)
        again = 0
        if counts or self.checkpoints:
            every = self.blocks_of(cuts)
            for start, count in zip(accumulate(every, initial=0), counts or every, strict=False):
                again += sum(block.flops for block in self.blocks[start : start + count])
        return (3 * (own + heads) + again) * self.batch_size

    def program(self, cuts: tuple[Boundary, ...]) -> Program:
        """The program of a partition."""
        boundaries = replace(self.unit.fact(Boundaries), cuts=cuts)
        unit = Partition().run(self.unit.with_facts(boundaries))
        return program_of(Lower().run(unit))

    def measure(
        self, cuts: tuple[Boundary, ...], counts: Sequence[int] | None = None
    ) -> StepMemory:
        """What training by a partition holds, by rehearsing it; end to end without cuts.

        Args:
            cuts: Between the parts.
            counts: How many blocks of each part are computed again; None: all or none.
        """
        training, program = self.training, self.program(cuts)
        settings = training.settings
        if counts is not None:
            settings = replace(settings, checkpoint_activations=False, checkpoint_blocks=counts)
        objective = training.objective
        if not cuts and training.whole is not None:
            objective = training.whole
        schedule = training.schedule if cuts else EndToEnd(1)
        return step_memory(
            program,
            objective(len(cuts) + 1),
            schedule,
            batch_size=self.batch_size,
            device=training.device,
            optimizer=training.optimizer,
            settings=settings,
            transfer=training.transfer(program),
        )

    @cached_property
    def end_to_end(self) -> StepMemory:
        """What end-to-end training holds."""
        return self.measure(())

    @property
    def flops(self) -> int:
        """Floating-point operations of a step end to end."""
        return self.flops_of(())

    def names(self, cuts: Sequence[Boundary]) -> tuple[str, ...]:
        """Cuts as ``--cut`` takes them: after modules where one ends there, else after nodes."""
        return tuple(self._name(cut) for cut in cuts)

    def _name(self, cut: Boundary) -> str:
        try:
            (placed,) = place_cuts(self.unit, [cut.path])
        except PartitionError:
            return cut.after
        return cut.path if placed.after == cut.after else cut.after
