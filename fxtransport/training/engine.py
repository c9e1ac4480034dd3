"""Steps and epochs by a schedule: which parts train now, and what comes next."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fxtransport.program import Part, PartOutput
from fxtransport.training.compiling import begin_step
from fxtransport.training.devices import move_to
from fxtransport.training.frozen import FrozenParts
from fxtransport.training.learner import Learner, compile_part, graphs_of
from fxtransport.training.offload import Offload
from fxtransport.training.reports import StepReport
from fxtransport.training.schedules import Phase
from fxtransport.training.settings import TrainerSettings
from fxtransport.training.state import RunState
from fxtransport.training.steps import Guidance, split, sweep
from fxtransport.training.transfer import Guide


class Engine:
    """Takes a run from step to step and from epoch to epoch.

    Args:
        state: The state of the run.
        parts: The parts that its schedule trains.
        phases: The phases of its schedule.
        settings: How it runs.
        guide: What it is kept near to; None without a regularizer.
        offload: Moves the parts that do not train; None: all parts stay on the device.
        held: Modules that are in eval mode while others train.
    """

    def __init__(
        self,
        state: RunState,
        parts: Sequence[Part],
        phases: tuple[Phase, ...],
        settings: TrainerSettings,
        guide: Guide | None = None,
        offload: Offload | None = None,
        held: Sequence[nn.Module] = (),
    ) -> None:
        self._held = held
        self.guide = guide
        self.offload = offload
        self.state = state
        self.parts = tuple(parts)
        self.phases = phases
        self.settings = settings
        self._frozen: FrozenParts | None = None
        self._entered: int | None = None
        self._untrained: dict[int, Callable[..., PartOutput]] = {}
        """The forwards of the parts that never train, and so have no learner."""

    @property
    def phase(self) -> Phase:
        """The present phase; after the end, the last."""
        return self.phases[min(self.state.position.phase, len(self.phases) - 1)]

    @property
    def learners(self) -> tuple[Learner, ...]:
        """What trains in the present phase."""
        return tuple(self.state.learners[k] for k in self.phase.parts)

    @property
    def trained_exits(self) -> tuple[int, ...]:
        """The exits whose heads have been trained, those of the present phase included."""
        entered = self.phases[: self.state.position.phase + 1]
        return tuple(sorted({self.parts[k].exit for phase in entered for k in phase.parts}))

    @property
    def frozen_parts(self) -> tuple[Part, ...]:
        """The parts before those that train."""
        return self.parts[: self.phase.first]

    @property
    def graphs(self) -> int:
        """How many graphs were compiled so far."""
        found = sum(learner.graphs for learner in self.state.learners.values())
        return found + sum(graphs_of(run) for run in self._untrained.values())

    @property
    def frozen(self) -> FrozenParts:
        """The forward of the parts before those that train."""
        self.enter()
        assert self._frozen is not None
        return self._frozen

    def enter(self) -> None:
        """Set the modes of all modules for the present phase, and move parts, once."""
        if self._entered == self.state.position.phase:
            return
        if self.offload is not None:
            self.offload.arrange(self.phase.parts)
        self._entered = self.state.position.phase
        settings, learners = self.settings, self.state.learners
        for k, part in enumerate(self.frozen_parts):
            if k not in learners and k not in self._untrained:
                self._untrained[k] = compile_part(part, settings)
        runs = [
            learners[k].run if k in learners else self._untrained[k]
            for k in range(len(self.frozen_parts))
        ]
        self._frozen = FrozenParts(
            self.state.program,
            runs,
            self.state.device,
            settings.update_frozen_bn,
            settings.amp,
            self.visit,
        )
        for module in self._held:
            module.eval()
        self.state.objective.train()

    def visit(self, part: Part) -> AbstractContextManager[None]:
        """A context in which a part is on the device to run without gradient."""
        return nullcontext() if self.offload is None else self.offload.visit(part)

    def gather(self) -> AbstractContextManager[None]:
        """A context in which all parts are on the device."""
        return nullcontext() if self.offload is None else self.offload.gather()

    def collect(self) -> None:
        """Move parts that offload brought to the device back to the CPU, until the next step."""
        if self.offload is not None:
            self.offload.collect()
            self._entered = None

    def step(self, inputs: Any, targets: torch.Tensor, *, hidden: bool = False) -> StepReport:
        """One optimizer step of every part of the present phase.

        Args:
            inputs: B×…, or a tuple of tensors.
            targets: B classes, or B×classes probabilities.
            hidden: Whether the inputs are what the frozen parts return.

        Raises:
            LossError: a loss is not a finite number.
        """
        state = self.state
        self.enter()
        begin_step(self.settings)
        goals = split(move_to(targets, state.device), self.settings.accumulate)
        guidance = self._guidance(inputs)
        parts, _ = sweep(
            self.learners,
            state.objective,
            # no variable refers to these, so that each is freed when it has been read
            self._pieces(inputs, hidden=hidden),
            goals,
            self.settings.amp,
            guidance,
        )
        number = state.position.steps + 1
        if state.ema is not None:
            state.ema.update(state.program, step=number)
        report = StepReport(parts, len(targets))
        state.meter.add(number, report)
        state.position = replace(state.position, steps=number)
        return report

    def hidden(self, inputs: Any) -> Any:
        """What the frozen parts return for a batch, on the device, without a step."""
        frozen = self.frozen
        begin_step(self.settings)
        return frozen(move_to(inputs, self.state.device, self.settings.channels_last))

    def end_epoch(self) -> None:
        """Set the next learning rates, and go on to the next phase after a phase's last epoch."""
        state, phase = self.state, self.phase
        for learner in self.learners:
            learner.end_epoch()
        state.meter.reset()
        position = state.position
        position = replace(position, epoch=position.epoch + 1, epochs=position.epochs + 1, batch=0)
        if position.epoch == phase.epochs:
            position = replace(position, phase=position.phase + 1, epoch=0)
            later = {k for phase in self.phases[position.phase :] for k in phase.parts}
            # after the last phase nothing is left to save memory for, and a run may be extended
            for k in set(phase.parts) - later if position.phase < len(self.phases) else ():
                state.learners[k].release()
        state.position = position

    def _guidance(self, inputs: Any) -> Guidance | None:
        """The regularizer, with what the teacher says of each piece of a batch."""
        if self.guide is None:
            return None
        references = [self.guide(piece) for piece in split(inputs, self.settings.accumulate)]
        return Guidance(self.guide.regularizer, references)

    def _pieces(self, inputs: Any, *, hidden: bool) -> list[Any]:
        """What the first part that trains reads, in pieces."""
        state, settings = self.state, self.settings
        pieces = split(move_to(inputs, state.device, settings.channels_last), settings.accumulate)
        if hidden or not self.frozen_parts:
            return pieces
        for i, piece in enumerate(pieces):
            pieces[i] = self.frozen(piece)
        return pieces
