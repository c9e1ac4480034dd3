"""Steps and epochs by a schedule: which modules train now, and what comes next."""

from dataclasses import replace
from typing import Any

import torch

from fxtransport.training.devices import moved
from fxtransport.training.frozen import FrozenModules
from fxtransport.training.learner import Learner
from fxtransport.training.reports import StepReport
from fxtransport.training.schedules import Phase
from fxtransport.training.settings import TrainerSettings
from fxtransport.training.state import RunState
from fxtransport.training.steps import split, sweep


class Engine:
    """Takes a run from step to step and from epoch to epoch.

    Args:
        state: The run's.
        phases: Its schedule's.
        settings: How it runs.
    """

    def __init__(
        self, state: RunState, phases: tuple[Phase, ...], settings: TrainerSettings
    ) -> None:
        self.state = state
        self.phases = phases
        self.settings = settings
        self._frozen: FrozenModules | None = None
        self._entered: int | None = None

    @property
    def phase(self) -> Phase:
        """The present phase; after the end, the last."""
        return self.phases[min(self.state.position.phase, len(self.phases) - 1)]

    @property
    def learners(self) -> tuple[Learner, ...]:
        """What trains in the present phase."""
        return tuple(self.state.learners[k] for k in keys(self.phase))

    @property
    def trained(self) -> tuple[int, ...]:
        """The modules whose heads have been trained, the present phase's included."""
        present = self.phases[: self.state.position.phase + 1]
        last = len(self.state.program.parts) - 1
        return tuple(sorted({k for phase in present for k in phase.modules or (last,)}))

    @property
    def frozen(self) -> FrozenModules:
        """The modules before those that train."""
        self.enter()
        assert self._frozen is not None
        return self._frozen

    def enter(self) -> None:
        """Set the modes of all modules for the present phase, once."""
        if self._entered == self.state.position.phase:
            return
        self._entered = self.state.position.phase
        runs = [self.state.learners[k].run for k in range(self.phase.first)]
        self._frozen = FrozenModules(
            self.state.program, runs, self.state.device, self.settings.drift, self.settings.amp
        )
        self.state.objective.train()

    def step(self, inputs: Any, targets: torch.Tensor, *, hidden: bool = False) -> StepReport:
        """One optimiser step of every module of the present phase.

        Args:
            inputs: B×…, or a tuple of tensors.
            targets: B classes, or B×classes probabilities.
            hidden: Whether the inputs are what the frozen modules return.

        Raises:
            LossError: a loss is not a finite number.
        """
        state, frozen, count = self.state, self.frozen, self.settings.accumulate
        pieces = split(moved(inputs, state.device, self.settings.channels_last), count)
        goals = split(moved(targets, state.device), count)
        if frozen and not hidden:
            for i, piece in enumerate(pieces):
                pieces[i] = frozen(piece)
        modules = sweep(self.learners, state.objective, pieces, goals, self.settings.amp)
        number = state.position.steps + 1
        if state.ema is not None:
            state.ema.update(state.program, step=number)
        report = StepReport(modules, len(targets))
        state.meter.add(number, report)
        state.position = replace(state.position, steps=number)
        return report

    def end_epoch(self) -> None:
        """Set the next learning rates, and go on to the next phase after a phase's last."""
        state, phase = self.state, self.phase
        for learner in self.learners:
            learner.end_epoch()
        state.meter.reset()
        position = state.position
        position = replace(position, epoch=position.epoch + 1, epochs=position.epochs + 1, batch=0)
        if position.epoch == phase.epochs:
            position = replace(position, phase=position.phase + 1, epoch=0)
            later = {k for phase in self.phases[position.phase :] for k in keys(phase)}
            for key in set(keys(phase)) - later:
                state.learners[key].release()
        state.position = position


def keys(phase: Phase) -> tuple[int | None, ...]:
    """The keys of a phase's learners: indices of modules; None, the whole program."""
    return (None,) if phase.modules is None else phase.modules
