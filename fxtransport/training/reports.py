"""What a trainer reports, and the observers that it reports to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fxtransport.training.schedules import Phase


@dataclass(frozen=True)
class Position:
    """Where in a run a trainer is."""

    phase: int = 0
    epoch: int = 0
    """Epochs of the phase that are done."""
    batch: int = 0
    """Batches of the epoch that are done."""
    steps: int = 0
    """Steps since the beginning; in each, all parts of a phase make an optimizer step."""
    epochs: int = 0
    """Epochs since the beginning, over all phases: the ``n`` of the data's ``epoch(n)``."""


@dataclass(frozen=True)
class PartStep:
    """One optimizer step of one part.

    Each number is a 0-d tensor on the program's device, without a graph; reading one
    (``.item()``) waits for the device.
    """

    part: int
    """The index of its exit: its own; of the whole program, that of the last part."""
    loss: torch.Tensor
    """The loss that was minimized."""
    classification: torch.Tensor
    transport: torch.Tensor | None
    """C; None without a cost."""
    multiplier: torch.Tensor | None
    """λ or τ; None without one."""
    penalties: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Of a regularizer, by name, without their weights."""
    accuracy: torch.Tensor | None = None
    """The share of the batch's samples whose largest logit was that of their class."""


@dataclass(frozen=True)
class StepReport:
    """One optimizer step of all parts of a phase."""

    parts: tuple[PartStep, ...]
    samples: int


@dataclass(frozen=True)
class PartEpoch:
    """Means over the samples of an epoch, of one part that trained."""

    part: int
    """As in :class:`PartStep`."""
    lr: float
    loss: float
    classification: float
    transport: float | None
    multiplier: float | None
    """The last one, not a mean."""
    penalties: Mapping[str, float] = field(default_factory=dict)
    """Of a regularizer, by name, without their weights."""
    accuracy: float | None = None
    """Of training samples, each as it was when it was trained on, in train mode."""


@dataclass(frozen=True)
class Exit:
    """How good the head of a part is on a data set."""

    part: int
    accuracy: float
    """The share of samples whose largest logit is that of their class: 0 to 1."""
    loss: float
    """Mean cross-entropy."""
    samples: int
    top5: float | None = None
    """The share of samples whose class has one of the five largest logits; None in runs of earlier
    versions."""


@dataclass(frozen=True)
class Best:
    """An exit when it was best, on the validation split."""

    exit: Exit
    epoch: int
    """The number of epochs after which it was found, since the beginning."""
    exits: tuple[Exit, ...] = ()
    """All exits that were measured with the same weights; empty where a run of an earlier version
    did not note them."""


@dataclass(frozen=True)
class Compilation:
    """What ``torch.compile`` compiled."""

    graphs: int = 0
    seconds: float = 0.0
    """Of the steps in which something was compiled."""


@dataclass(frozen=True)
class EpochReport:
    """One epoch."""

    position: Position
    """The position at its end; ``position.epochs`` counts this one."""
    phase: Phase
    parts: tuple[PartEpoch, ...]
    exits: tuple[Exit, ...]
    """Every head that has been trained so far, on the validation split."""
    best: Best | None
    seconds: float
    """The time of training, without validation."""
    samples_per_second: float
    """Without the steps in which something was compiled, if there are others."""
    peak_memory: int | None
    """The largest number of bytes while the epoch trained, without validation: allocated on a
    CUDA device, else resident of the whole process. None where the system does not say."""
    measured: Mapping[str, float | None] = field(default_factory=dict)
    """What monitors measured, by column."""
    compilation: Compilation = Compilation()
    """What was compiled in its steps."""
    elapsed: float = 0.0
    """Seconds since the run began, validation included; of a run that was resumed, without the
    time between."""


@dataclass(frozen=True)
class Plan:
    """How much there is to do."""

    phases: tuple[Phase, ...]
    steps_per_epoch: int
    position: Position
    """Where it begins: not at 0 when a run is resumed."""
    finished: bool = False
    """Whether the run was finished before, and nothing is left to do."""

    @property
    def epochs(self) -> int:
        """The number of epochs in all phases."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def steps(self) -> int:
        """The number of steps in all phases."""
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class FitReport:
    """The result of a run."""

    position: Position
    exits: tuple[Exit, ...]
    """The exits on the validation split, after the last epoch."""
    best: Best | None
    """None without a validation split."""
    test: Exit | None
    """The best exit, with its weights, on the test split; None without a test split."""
    compilation: Compilation = field(default_factory=Compilation, compare=False)
    """What was compiled in this call of ``fit``; two runs that are equal differ in its time."""
    stopped: bool = False
    """Whether it ended before the last epoch, as nothing became better."""
    whole: Best | None = None
    """When the last exit, that of the whole model, was best; None where it was not validated."""


class Observer:
    """Receives the reports of a trainer. Methods do nothing unless they are overridden."""

    def on_start(self, plan: Plan) -> None:
        """``fit`` begins."""

    def on_phase(self, phase: Phase, position: Position) -> None:
        """A phase begins, or goes on after a resume."""

    def on_compile(self, backend: str) -> None:
        """The next step compiles, which takes a while."""

    def on_compiled(self, compilation: Compilation) -> None:
        """A step has compiled something."""

    def on_step(self, step: StepReport, position: Position) -> None:
        """A step is done. Reading its numbers makes a CUDA device wait: do so now and then."""

    def on_epoch(self, epoch: EpochReport) -> None:
        """An epoch and its validation are done."""

    def on_checkpoint(self, path: Path, position: Position) -> None:
        """A checkpoint was written."""

    def on_end(self, report: FitReport) -> None:
        """``fit`` ends."""
