"""Means over an epoch, read from the device every few steps."""

import math
from typing import Any

from fxtransport.training.learner import Learner
from fxtransport.training.reports import PartEpoch, PartStep, StepReport
from fxtransport.training.steps import LossError

_SUMMED = ("loss", "classification", "transport", "accuracy")
_PENALTY = "penalty "
"""The prefix of the sums of a regularizer."""


class Meter:
    """Adds up what the parts of a phase report in one epoch.

    Reading a number makes an accelerator wait, so the reports of several steps are read
    together.

    Args:
        every: The number of steps that are read together.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._pending: list[tuple[int, StepReport]] = []
        self._sums: dict[int, dict[str, float]] = {}
        self._multipliers: dict[int, float] = {}
        self._samples = 0

    def add(self, number: int, report: StepReport) -> None:
        """Add a step.

        Args:
            number: The number of the step, for errors.
            report: What its parts report.

        Raises:
            LossError: the reports were read, and a loss is not finite.
        """
        self._pending.append((number, report))
        if len(self._pending) >= self._every:
            self.read()

    def read(self) -> None:
        """Read the numbers of the steps that were not read yet.

        Raises:
            LossError: a loss is not finite.
        """
        pending, self._pending = self._pending, []
        for number, report in pending:
            for step in report.parts:
                self._read(number, step, report.samples)
            self._samples += report.samples

    def _read(self, number: int, step: PartStep, samples: int) -> None:
        begins = step.part not in self._sums
        sums = self._sums.setdefault(step.part, {})
        for name in _SUMMED:
            tensor = getattr(step, name)
            # an epoch may go on whose first steps, of an earlier version, did not have all
            if tensor is None or not (begins or name in sums):
                continue
            value = tensor.item()
            if name == "loss" and not math.isfinite(value):
                raise LossError(step.part, value, number)
            sums[name] = sums.get(name, 0.0) + value * samples
        for name, tensor in step.penalties.items():
            key = f"{_PENALTY}{name}"
            sums[key] = sums.get(key, 0.0) + tensor.item() * samples
        if step.multiplier is not None:
            self._multipliers[step.part] = step.multiplier.item()

    def epoch(self, learners: tuple[Learner, ...]) -> tuple[PartEpoch, ...]:
        """The means over the samples of the epoch, for each part that trained."""
        self.read()
        return tuple(self._mean(learner) for learner in learners)

    def _mean(self, learner: Learner) -> PartEpoch:
        k = learner.part.exit
        sums = self._sums[k]
        return PartEpoch(
            part=k,
            lr=learner.lr,
            loss=sums["loss"] / self._samples,
            classification=sums["classification"] / self._samples,
            transport=sums["transport"] / self._samples if "transport" in sums else None,
            multiplier=self._multipliers.get(k),
            accuracy=sums["accuracy"] / self._samples if "accuracy" in sums else None,
            penalties={
                name.removeprefix(_PENALTY): total / self._samples
                for name, total in sums.items()
                if name.startswith(_PENALTY)
            },
        )

    def reset(self) -> None:
        """Start a new epoch."""
        self._pending, self._sums, self._multipliers, self._samples = [], {}, {}, 0

    def state_dict(self) -> dict[str, Any]:
        """The sums so far.

        Raises:
            LossError: a loss that was not read yet is not finite.
        """
        self.read()
        return {"sums": self._sums, "multipliers": self._multipliers, "samples": self._samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state."""
        self.reset()
        self._sums, self._multipliers = state["sums"], state["multipliers"]
        self._samples = state["samples"]
