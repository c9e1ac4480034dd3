"""What a trainer tells of its work, and to whom."""

from dataclasses import dataclass
from pathlib import Path

import torch

from fxtransport.training.schedules import Phase


@dataclass(frozen=True)
class Position:
    """Where in a run a trainer is."""

    phase: int = 0
    epoch: int = 0
    """Of the phase."""
    batch: int = 0
    """Batches of the epoch that are done."""
    steps: int = 0
    """Optimiser steps (sweeps over the modules of a phase) since the beginning."""
    epochs: int = 0
    """Epochs since the beginning, over all phases: the data's ``epoch(n)``."""


@dataclass(frozen=True)
class ModuleStep:
    """One module's part in a step.

    Each number is a 0-d tensor on the program's device, without a graph; reading one
    (``.item()``) waits for the device.
    """

    module: int
    """Its index; of a program that trains as one, the last module's."""
    loss: torch.Tensor
    """The total, which was minimised."""
    classification: torch.Tensor
    transport: torch.Tensor | None
    """C; None without a cost."""
    weight: torch.Tensor | None
    """λ or τ; None without one."""


@dataclass(frozen=True)
class StepReport:
    """One optimiser step of all modules of a phase."""

    modules: tuple[ModuleStep, ...]
    samples: int


@dataclass(frozen=True)
class ModuleEpoch:
    """Means over an epoch's samples of one module that trained."""

    module: int
    lr: float
    loss: float
    classification: float
    transport: float | None
    weight: float | None
    """The last one, not a mean."""


@dataclass(frozen=True)
class Exit:
    """How good a module's head is on a data set."""

    module: int
    accuracy: float
    """The share of samples whose largest logit is their class's: 0 to 1."""
    loss: float
    """Mean cross-entropy."""
    samples: int


@dataclass(frozen=True)
class Best:
    """The best exit so far, on the validation split."""

    exit: Exit
    epoch: int
    """After how many epochs since the beginning."""


@dataclass(frozen=True)
class EpochReport:
    """One epoch."""

    position: Position
    """At its end; ``position.epochs`` counts this one."""
    phase: Phase
    modules: tuple[ModuleEpoch, ...]
    exits: tuple[Exit, ...]
    """Of the validation split, for every head that has been trained so far."""
    best: Best | None
    seconds: float
    """Of training, without validation."""
    samples_per_second: float
    peak_memory: int
    """Bytes: allocated on a CUDA device, else of the whole process."""


@dataclass(frozen=True)
class Plan:
    """How much there is to do."""

    phases: tuple[Phase, ...]
    steps_per_epoch: int
    position: Position
    """Where it begins: not at 0 when a run is resumed."""

    @property
    def epochs(self) -> int:
        """Of all phases."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def steps(self) -> int:
        """Of all phases."""
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class FitReport:
    """What came of a run."""

    position: Position
    exits: tuple[Exit, ...]
    """Of the validation split, after the last epoch."""
    best: Best | None
    """None without a validation split."""
    test: Exit | None
    """The test split, at the best exit and with its weights; None without a test split."""


class Observer:
    """Is told of a trainer's progress. Each method does nothing unless it is overridden."""

    def on_start(self, plan: Plan) -> None:
        """``fit`` begins."""

    def on_phase(self, phase: Phase, position: Position) -> None:
        """A phase begins, or goes on after a resume."""

    def on_step(self, step: StepReport, position: Position) -> None:
        """A step is done. Reading its numbers makes a CUDA device wait: do so now and then."""

    def on_epoch(self, epoch: EpochReport) -> None:
        """An epoch and its validation are done."""

    def on_checkpoint(self, path: Path, position: Position) -> None:
        """A checkpoint was written."""

    def on_end(self, report: FitReport) -> None:
        """``fit`` ends."""
