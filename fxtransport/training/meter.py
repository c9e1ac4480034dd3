"""Means over an epoch, read from the device now and then."""

import math
from typing import Any

from fxtransport.training.learner import Learner
from fxtransport.training.reports import ModuleEpoch, ModuleStep, StepReport
from fxtransport.training.steps import LossError

_SUMMED = ("loss", "classification", "transport")


class Meter:
    """Adds up what the modules of a phase report, for one epoch.

    Reading a number makes an accelerator wait, so the reports of several steps are read
    together.

    Args:
        every: After how many steps.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._pending: list[tuple[int, StepReport]] = []
        self._sums: dict[int, dict[str, float]] = {}
        self._weights: dict[int, float] = {}
        self._samples = 0

    def add(self, number: int, report: StepReport) -> None:
        """Count a step in.

        Args:
            number: The step's, to name it by.
            report: What its modules report.

        Raises:
            LossError: when it reads them, a loss is not finite.
        """
        self._pending.append((number, report))
        if len(self._pending) >= self._every:
            self.read()

    def read(self) -> None:
        """Read the numbers of the steps since the last time.

        Raises:
            LossError: a loss is not finite.
        """
        pending, self._pending = self._pending, []
        for number, report in pending:
            for step in report.modules:
                self._read(number, step, report.samples)
            self._samples += report.samples

    def _read(self, number: int, step: ModuleStep, samples: int) -> None:
        sums = self._sums.setdefault(step.module, {})
        for name in _SUMMED:
            tensor = getattr(step, name)
            if tensor is None:
                continue
            value = tensor.item()
            if name == "loss" and not math.isfinite(value):
                raise LossError(step.module, value, number)
            sums[name] = sums.get(name, 0.0) + value * samples
        if step.weight is not None:
            self._weights[step.module] = step.weight.item()

    def epoch(self, learners: tuple[Learner, ...]) -> tuple[ModuleEpoch, ...]:
        """The means over the epoch's samples, for each module that trained."""
        self.read()
        return tuple(self._mean(learner) for learner in learners)

    def _mean(self, learner: Learner) -> ModuleEpoch:
        k, sums = learner.exit, self._sums[learner.exit]
        return ModuleEpoch(
            module=k,
            lr=learner.lr,
            loss=sums["loss"] / self._samples,
            classification=sums["classification"] / self._samples,
            transport=sums["transport"] / self._samples if "transport" in sums else None,
            weight=self._weights.get(k),
        )

    def reset(self) -> None:
        """Begin an epoch."""
        self._pending, self._sums, self._weights, self._samples = [], {}, {}, 0

    def state_dict(self) -> dict[str, Any]:
        """The sums so far.

        Raises:
            LossError: a loss that was not read yet is not finite.
        """
        self.read()
        return {"sums": self._sums, "weights": self._weights, "samples": self._samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from sums."""
        self.reset()
        self._sums, self._weights = state["sums"], state["weights"]
        self._samples = state["samples"]
