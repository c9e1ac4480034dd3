"""Save a run and restore it."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from fxtransport.errors import CheckpointError, TrainingError, UsageError, first_line
from fxtransport.randomness import restore_random_state
from fxtransport.training.checkpoint import CHECKPOINT, Checkpoint, KeptWeights, RunFolder
from fxtransport.training.identity import check_same_data, check_same_run
from fxtransport.training.reports import Position
from fxtransport.training.schedules import Phase
from fxtransport.training.state import RunState
from fxtransport.training.steps import LossError
from fxtransport.weights import distinct_state

_WRITTEN = ("config.toml", "checked.txt", "metrics.csv", "results.json", "wandb.txt")
"""Files of a run that its checkpoint does not name."""


class ThreadsWarning(UserWarning):
    """A run goes on with another number of threads, so sums are added in another order."""


class Saver:
    """Writes the checkpoints of a run and resumes from them.

    Args:
        folder: The folder of the run; None: nothing is written.
        state: The state of the run.
        description: What must be the same when the run is resumed, as JSON.
        phases: The phases of its schedule.
        keep_every: Keep the weights after every so many epochs, and those of the beginning;
            None: only the last checkpoint and the best weights are kept.
        about: What else is kept in checkpoints, as JSON; None: what the last one says.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        state: RunState,
        description: dict[str, Any],
        phases: Sequence[Phase],
        keep_every: int | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self._state = state
        self._description = description
        self._phases = phases
        self._keep_every = keep_every
        self._about = about
        self._data: Mapping[str, Any] = {}
        self._kept: tuple[KeptWeights, ...] = ()
        self._random: dict[str, Any] | None = None
        self._saved_at = time.monotonic()
        self.extended = False
        """Whether the run goes on otherwise than it began."""
        self.saved: Position | None = None
        """The position of the last checkpoint, of this process or the one before."""

    @property
    def minutes(self) -> float:
        """Minutes since the last checkpoint."""
        return (time.monotonic() - self._saved_at) / 60

    def save(self) -> None:
        """Write a checkpoint, if there is a folder.

        Raises:
            CheckpointError: it cannot be written; the one before stays.
            LossError: a loss that was not read yet is not finite.
            TrainingError: a parameter is not finite.
        """
        if self.folder is None:
            return
        self._state.check_finite()
        best = self._state.best
        summary = {
            "run": self._description,
            "data": self._data,
            "about": self._about or {},
            "position": asdict(self._state.position),
            "best": best.record and asdict(best.record),
            "threads": torch.get_num_threads(),
        }
        self._keep(self.folder)
        state = self._state.state_dict()
        checkpoint = Checkpoint(summary, state, best.weights, self._kept, best.whole_weights)
        self.folder.write(checkpoint)
        self.saved, self._saved_at = self._state.position, time.monotonic()

    def check_data(self, data: Mapping[str, Any]) -> None:
        """Note what the run trains and is measured on; see that it is what the run began with.

        Raises:
            CheckpointError: it is other data.
        """
        check_same_data(self._data, data)
        # a run that goes on with batches that do not tell keeps what it knows
        self._data = {name: now or self._data.get(name) for name, now in data.items()}

    def _keep(self, folder: RunFolder) -> None:
        """Keep the present weights, if an epoch of which they are kept has just ended."""
        position = self._state.position
        if self._keep_every is None or position.batch or position.epochs % self._keep_every:
            return
        if any(kept.epochs == position.epochs for kept in self._kept):
            return
        tensors = distinct_state(self._state.validated)
        weights = folder.write_tensors(f"epoch-{position.epochs:05}", tensors)
        self._kept = (*self._kept, KeptWeights(position.epochs, weights))

    def restore(self, *, extend: bool = False) -> None:
        """Resume from the last checkpoint.

        Warns by :class:`ThreadsWarning` where a run on the CPU goes on with another number of
        threads.

        Args:
            extend: Go on with the schedule, the options of the optimizer and the multipliers that
                the run has now.

        Raises:
            CheckpointError: there is none, it is damaged, or it is of another run.
            UsageError: there is no folder, or the optimizer cannot go on with its options.
        """
        if self.folder is None:
            raise UsageError("the trainer has no run folder to restore from; give it run=…")
        checkpoint = self.folder.read()
        summary = checkpoint.summary
        check_same_run(_table(summary, "run"), self._description, extend=extend)
        # now, not at the end of the run, where it would be too late
        for weights in checkpoint.weights:
            self.folder.verify(weights)
        self._state.load_checkpoint(checkpoint, self._phases, extend=extend)
        self.extended = extend
        self.folder.adopt(checkpoint, *_WRITTEN)
        self._data = _table(summary, "data")
        if self._about is None:
            self._about = _table(summary, "about")
        if self._state.device.type == "cpu" and not self._state.finished:
            _warn_of_threads(summary.get("threads"))
        self._kept = checkpoint.kept
        self._random = checkpoint.state["random"]
        self.saved = self._state.position

    def begin(self) -> bool:
        """Restore the random number generators, and say whether the run was restored.

        Raises:
            CheckpointError: it was not, and the folder holds another run.
        """
        if self._random is not None:
            try:
                restore_random_state(self._random, self._state.device)
            except (LookupError, RuntimeError, TypeError, ValueError) as error:
                raise CheckpointError(
                    f"the checkpoint is damaged: its random generators: {first_line(error)}"
                ) from error
            self._random = None
            return True
        if self.saved is None and self.folder is not None and self.folder.has_checkpoint:
            raise CheckpointError(
                f"{self.folder.path} already holds a run; call restore() to resume it, or give "
                "another folder"
            )
        return self.saved is not None

    def explain(self, error: LossError) -> TrainingError:
        """The error of a loss, with its step and the last checkpoint before it."""
        position = self._state.position
        step = error.step or position.steps + 1
        if self.saved is None or self.folder is None:
            last = "there is no checkpoint"
        else:
            path = self.folder.path / CHECKPOINT
            last = f"the last good checkpoint is {path}, of step {self.saved.steps}"
        return TrainingError(
            f"the loss of part {error.part} is {error.value} at step {step}, in epoch "
            f"{position.epochs + 1}; {last}; train with a lower learning rate, or clip gradients"
        )


def _warn_of_threads(before: Any) -> None:
    """Say that sums may differ in their last bits.

    Args:
        before: The number of threads at the last checkpoint; None, or something else, where it
            does not say.
    """
    now = torch.get_num_threads()
    if type(before) is int and before != now:
        warnings.warn(
            f"the run was on {before} threads and goes on with {now}, so its numbers may differ in "
            f"their last bits from those of a run in one go; for the same ones, set "
            f"OMP_NUM_THREADS={before}",
            ThreadsWarning,
            stacklevel=4,
        )


def _table(summary: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A table of a checkpoint's summary.

    Raises:
        CheckpointError: it is not there.
    """
    found = summary.get(name)
    if not isinstance(found, dict):
        raise CheckpointError(f"the checkpoint is damaged: it does not say {name!r} of its run")
    return found
