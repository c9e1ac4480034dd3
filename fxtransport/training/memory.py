"""What training steps hold in memory at their peak, found out on tensors without data.

The steps are those of a trainer: the same parts, objective, optimizers and order. They run on fake
tensors, which have shapes, a device and no data, so that nothing is allocated, no device is
needed, and the figures are the same on every machine; on the CPU, with one thread or with several.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import torch
from torch import nn

from fxtransport.fakes import Fakes, without_data
from fxtransport.objectives import Objective
from fxtransport.peaks import Held, MemoryLog
from fxtransport.program import Part, Program
from fxtransport.replay import replayed
from fxtransport.training.freezing import freeze
from fxtransport.training.frozen import FrozenParts
from fxtransport.training.layer_decay import layer_scales
from fxtransport.training.learner import Learner
from fxtransport.training.schedules import Phase, Schedule
from fxtransport.training.settings import OptimizerSettings, TrainerSettings
from fxtransport.training.steps import Guidance, drain, split, train_part
from fxtransport.training.transfer import Guide, Transfer


class MemoryKind(StrEnum):
    """What memory is held for."""

    PARAMETERS = "parameters"
    """Parameters and buffers of the model, a moving average of them, and a teacher's."""
    GRADIENTS = "gradients"
    """Of the model's parameters."""
    OPTIMIZER = "optimizer"
    """The optimizers' state for them."""
    ACTIVATIONS = "activations"
    """The batch, hidden states, and what the forward has saved for the backward."""
    TEMPORARIES = "temporaries"
    """What lives within the forward, the backward or the optimizer's step alone."""
    HEADS = "heads"
    """Auxiliary heads: their parameters, gradients, optimizer state, and what they save."""


@dataclass(frozen=True)
class StepMemory:
    """What training steps hold at their peak."""

    peak_bytes: int
    kinds: dict[MemoryKind, int]
    """What the peak consists of, in bytes."""
    parts: tuple[int, ...]
    """The peak while each part trains, in bytes."""


def step_memory(
    program: Program,
    objective: Objective,
    schedule: Schedule,
    *,
    batch_size: int,
    device: str = "cpu",
    optimizer: OptimizerSettings | None = None,
    settings: TrainerSettings | None = None,
    transfer: Transfer | None = None,
) -> StepMemory:
    """The peak memory of training, as the allocator of the device counts it.

    It is that of a step after the first, when optimizers have their state; of a schedule of
    several phases, the highest. Workspaces of CUDA's kernels are not counted.

    Args:
        program: The program; on any device, also ``meta``. It is not changed.
        objective: What it minimizes.
        schedule: Which parts train together.
        batch_size: Samples in a batch.
        device: ``cpu`` or ``cuda``; there need not be one.
        optimizer: The optimizer of every part.
        settings: How to train; their device does not count.
        transfer: A regularizer with its teacher.

    Raises:
        UsageError: the optimizer cannot be made.
        GuardError: the program does not take the batch size.
    """
    settings = replace(settings or TrainerSettings(), device=None, compile=None, cuda_graphs=False)
    if settings.amp == "fp16":
        # the same bytes, without a scale of the loss, which looks at gradients
        settings = replace(settings, amp="bf16")
    with without_data(torch.device(device)) as fakes:
        rehearsal = _Rehearsal(
            fakes,
            fakes.copy(program, channels_last=settings.channels_last),
            fakes.copy(objective),
            optimizer or OptimizerSettings(),
            settings,
            transfer,
        )
        return rehearsal.run(schedule, batch_size)


class _Rehearsal:
    """Steps of a program without data."""

    def __init__(
        self,
        fakes: Fakes,
        program: Program,
        objective: Objective,
        optimizer: OptimizerSettings,
        settings: TrainerSettings,
        transfer: Transfer | None,
    ) -> None:
        self._fakes = fakes
        self._program = program
        freeze(program, settings.freeze)
        self._objective = objective
        self._optimizer = optimizer
        self._settings = settings
        self._transfer = None if transfer is None else self._copy_transfer(transfer)
        self._guide: Guide | None = None
        if self._transfer is not None:
            self._guide = Guide(self._transfer, fakes.device, settings.amp)
        self._ema = None if settings.ema is None else fakes.copy(program)

    def _copy_transfer(self, transfer: Transfer) -> Transfer:
        teacher = copy.copy(transfer.teacher)
        if teacher is not None:
            teacher.program = self._fakes.copy(teacher.program)
        regularizer = transfer.regularizer
        held = regularizer.start.values()
        return Transfer(self._fakes.copy(regularizer, others=held), teacher)

    def run(self, schedule: Schedule, batch_size: int) -> StepMemory:
        """The highest peak of all phases."""
        parts = schedule.parts_of(self._program)
        phases = schedule.phases(len(parts))
        laps: dict[tuple[int, ...], Phase] = {phase.parts: phase for phase in phases}
        kept = [k for phase in phases for k in phase.parts] if phases[-1].lap else []
        found = [self._phase(parts, phase, kept, batch_size) for phase in laps.values()]
        by_part = [
            max(each.parts[k] for each in found if each.parts[k] >= 0) for k in range(len(parts))
        ]
        highest = max(found, key=lambda each: each.peak_bytes)
        return replace(highest, parts=tuple(by_part))

    def _phase(
        self, parts: Sequence[Part], phase: Phase, kept: Sequence[int], batch_size: int
    ) -> StepMemory:
        """The peak of a phase: its parts train, and those before them are frozen."""
        device, settings = self._fakes.device, self._settings
        learners = {
            k: Learner(
                parts[k],
                1,
                self._optimizer,
                settings,
                device,
                [] if self._guide is None else self._guide.regularizer.learned(parts[k]),
                layer_scales(self._program, self._optimizer),
            )
            for k in {*phase.parts, *kept}
        }
        for learner in learners.values():
            _give_state(learner)
        frozen = FrozenParts(
            self._program,
            parts[: phase.first],
            device,
            settings.update_frozen_bn,
            settings.amp,
        )
        self._objective.train()
        inputs, targets = self._batch(batch_size)
        watch = _Watch(self._program, learners)
        log = watch.log
        log.add((*_tensors_in(inputs), targets), MemoryKind.ACTIVATIONS)
        for module in self._beside():
            log.add((*module.parameters(), *module.buffers()), MemoryKind.PARAMETERS)
        if self._transfer is not None:
            log.add(self._transfer.regularizer.start.values(), MemoryKind.PARAMETERS)
        starts = {}
        with log, watch.hooks(self._program.parts), replayed(device, log):
            goals = split(targets, settings.accumulate)
            pieces = split(inputs, settings.accumulate)
            guidance = self._guidance(pieces)
            if phase.first:
                for i, piece in enumerate(pieces):
                    pieces[i] = frozen(piece)
                piece = None
            for k in phase.parts:
                log.place = k
                starts[k] = log.time + 1
                goal = self._objective
                _, pieces = train_part(
                    learners[k], goal, drain(pieces), goals, settings.amp, guidance
                )
        for learner in learners.values():
            learner.release()
        return watch.result(len(parts), starts)

    def _beside(self) -> list[nn.Module]:
        """What is held beside the program and its optimizers."""
        found: list[nn.Module] = [] if self._ema is None else [self._ema]
        if self._transfer is not None:
            found.append(self._transfer.regularizer)
            teacher = self._transfer.teacher
            found += [] if teacher is None else [teacher.program]
        return found

    def _guidance(self, pieces: Sequence[Any]) -> Guidance | None:
        if self._guide is None:
            return None
        return Guidance(self._guide.regularizer, [self._guide(piece) for piece in pieces])

    def _batch(self, batch_size: int) -> tuple[Any, torch.Tensor]:
        """Inputs as the program's example has them, and classes."""
        inputs: Any = self._program.facts.example.resized(batch_size, self._fakes.device)
        if self._settings.channels_last:
            inputs = tuple(
                x.to(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs
            )
        inputs = inputs[0] if len(inputs) == 1 else inputs
        return inputs, torch.zeros(batch_size, dtype=torch.int64, device=self._fakes.device)


def _give_state(learner: Learner) -> None:
    """Let an optimizer make its state, by a step."""
    with MemoryLog():
        for group in learner.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    parameter.grad = torch.empty_like(parameter)
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)


class _Watch:
    """A log of what steps hold, in which it is known what is of which kind."""

    def __init__(self, program: Program, learners: dict[int, Learner]) -> None:
        self.log = MemoryLog()
        heads = {
            id(p)
            for part in program.parts
            if part.auxiliary_head is not None
            for p in (*part.auxiliary_head.parameters(), *part.auxiliary_head.buffers())
        }
        self._heads = heads
        self._program = program
        for tensor in (*program.parameters(), *program.buffers()):
            self.log.add([tensor], self._kind(tensor, MemoryKind.PARAMETERS))
        for learner in learners.values():
            for parameter, state in learner.optimizer.state.items():
                kind = self._kind(parameter, MemoryKind.OPTIMIZER)
                self.log.add(_tensors_in(list(state.values())), kind)

    def _kind(self, tensor: torch.Tensor, other: MemoryKind) -> MemoryKind:
        return MemoryKind.HEADS if id(tensor) in self._heads else other

    @contextmanager
    def hooks(self, parts: Sequence[Part]) -> Iterator[None]:
        """Book gradients as such, and what is made in heads."""
        with ExitStack() as stack:
            for parameter in self._program.parameters():
                if parameter.requires_grad:
                    handle = parameter.register_post_accumulate_grad_hook(self._book_gradient)
                    stack.callback(handle.remove)
            for part in parts:
                if part.auxiliary_head is not None:
                    before = part.auxiliary_head.register_forward_pre_hook(self._enter_head)
                    after = part.auxiliary_head.register_forward_hook(self._leave_head)
                    stack.callback(before.remove)
                    stack.callback(after.remove)
            yield

    def _book_gradient(self, parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            held = self.log.held(parameter.grad)
            held.kind = self._kind(parameter, MemoryKind.GRADIENTS)

    def _enter_head(self, *_: Any) -> None:
        self.log.place = (self.log.place,)

    def _leave_head(self, *_: Any) -> None:
        (self.log.place,) = self.log.place

    def result(self, parts: int, starts: dict[int, int]) -> StepMemory:
        """The peak of what was booked."""
        curve = self.log.curve()
        peak = max(range(len(curve)), key=curve.__getitem__)
        kinds = dict.fromkeys(MemoryKind, 0)
        for held in self.log.found:
            if held.is_held_at(peak):
                kinds[self._kind_of(held)] += held.size
        kinds[MemoryKind.TEMPORARIES] += self.log.inner.get(peak, 0)
        ends = sorted([*starts.values(), len(curve)])
        by_part = [-1] * parts
        for k, start in starts.items():
            by_part[k] = max(curve[start : ends[ends.index(start) + 1]])
        return StepMemory(curve[peak], kinds, tuple(by_part))

    def _kind_of(self, held: Held) -> MemoryKind:
        if held.kind:
            return MemoryKind(held.kind)
        saved = not held.backward and any(
            held.born < start and held.is_held_at(start) for start in self.log.backwards
        )
        if not saved:
            return MemoryKind.TEMPORARIES
        in_head = isinstance(held.place, tuple)
        return MemoryKind.HEADS if in_head else MemoryKind.ACTIVATIONS


def _tensors_in(values: Any) -> list[torch.Tensor]:
    leaves = torch.utils._pytree.tree_leaves(values)
    return [value for value in leaves if isinstance(value, torch.Tensor)]
