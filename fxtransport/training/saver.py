"""Save a run and restore it."""

import time
from dataclasses import asdict
from typing import Any

from fxtransport.errors import CheckpointError, TrainingError, UsageError
from fxtransport.randomness import restore_random_state
from fxtransport.training.checkpoint import CHECKPOINT, Checkpoint, RunFolder
from fxtransport.training.reports import Position
from fxtransport.training.state import RunState
from fxtransport.training.steps import LossError


class Saver:
    """Writes a run's checkpoints and goes on from them.

    Args:
        folder: Where they are; None: nothing is written.
        state: The run's.
        description: What must be the same when the run is resumed, as JSON.
    """

    def __init__(
        self, folder: RunFolder | None, state: RunState, description: dict[str, Any]
    ) -> None:
        self.folder = folder
        self._state = state
        self._description = description
        self._random: dict[str, Any] | None = None
        self._saved_at = time.monotonic()
        self.saved: Position | None = None
        """Where the last checkpoint was written, by this process or the one before."""

    @property
    def minutes(self) -> float:
        """Since the last checkpoint."""
        return (time.monotonic() - self._saved_at) / 60

    def save(self) -> None:
        """Write a checkpoint, if there is a folder.

        Raises:
            CheckpointError: it cannot be written; the one before stays.
            LossError: a loss that was not read yet is not finite.
            TrainingError: a parameter is not.
        """
        if self.folder is None:
            return
        self._state.check_finite()
        best = self._state.best
        summary = {
            "run": self._description,
            "position": asdict(self._state.position),
            "best": best.record and asdict(best.record),
        }
        self.folder.write(Checkpoint(summary, self._state.state_dict(), best.weights))
        self.saved, self._saved_at = self._state.position, time.monotonic()

    def restore(self) -> None:
        """Go on from the last checkpoint.

        Raises:
            CheckpointError: there is none, it is damaged, or it is of another run.
            UsageError: there is no folder.
        """
        if self.folder is None:
            raise UsageError("there is nothing to restore: the trainer was given no run folder")
        checkpoint = self.folder.read()
        _check_same_run(checkpoint.summary, self._description)
        if checkpoint.best is not None:
            # not at the end of the run, when it is too late
            self.folder.verified(checkpoint.best)
        self._state.load_checkpoint(checkpoint)
        self._random = checkpoint.state["random"]
        self.saved = self._state.position

    def begin(self) -> bool:
        """Put the random generators where they were; whether the run was restored.

        Raises:
            CheckpointError: it was not, and the folder holds another one.
        """
        if self._random is not None:
            restore_random_state(self._random, self._state.device)
            self._random = None
            return True
        if self.saved is None and self.folder is not None and self.folder.has_checkpoint:
            raise CheckpointError(
                f"{self.folder.path} holds a run already: restore it (--resume), or give "
                "another folder"
            )
        return self.saved is not None

    def explain(self, error: LossError) -> TrainingError:
        """The error of a loss, with where it was and what there is to go back to."""
        position = self._state.position
        step = error.step or position.steps + 1
        if self.saved is None or self.folder is None:
            last = "there is no checkpoint"
        else:
            path = self.folder.path / CHECKPOINT
            last = f"the last good checkpoint is {path}, of step {self.saved.steps}"
        return TrainingError(
            f"the loss of module {error.module} is {error.value} at step {step}, in epoch "
            f"{position.epochs + 1}; {last}; train with a lower learning rate, or clip gradients"
        )


def _check_same_run(summary: dict[str, Any], present: dict[str, Any]) -> None:
    saved = summary.get("run", {})
    for name, value in present.items():
        if saved.get(name) != value:
            said = "" if name == "program" else f": {saved.get(name)}; this one has {value}"
            raise CheckpointError(f"the checkpoint is of a run with another {name}{said}")
