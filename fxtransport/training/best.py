"""The best exit so far, that of the whole model, and the weights with which they were found."""

from collections.abc import Sequence
from pathlib import Path

import torch

from fxtransport.program import Program
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.reports import Best, Exit
from fxtransport.training.tensor_files import Weights
from fxtransport.weights import distinct_state, load_weights


class BestExit:
    """Keeps the weights of the best exit, and those with which the last exit was best.

    The best exit has the highest accuracy on the validation split; of equals it is the one
    after the most parts, and then the first in time. The last exit is that of the whole model.
    Weights are kept in the run's folder, once where the two are the same.

    Args:
        folder: The folder of the run; None: keep those of the best exit in memory.
    """

    def __init__(self, folder: RunFolder | None) -> None:
        self._folder = folder
        self._tensors: dict[str, torch.Tensor] | None = None
        self.record: Best | None = None
        """The best exit."""
        self.weights: Weights | None = None
        """The file of its weights, if there is a folder."""
        self.whole: Best | None = None
        """When the last exit was best; None until it has been trained."""
        self.whole_weights: Weights | None = None
        """The file of the weights that it had then, if there is a folder."""

    def offer(self, exits: Sequence[Exit], epoch: int, program: Program) -> None:
        """Keep these weights, if an exit is better with them than it was so far.

        Args:
            exits: Exits, measured on the validation split.
            epoch: The number of epochs that are done.
            program: The program whose weights to keep.

        Raises:
            CheckpointError: the weights cannot be written.
        """
        if not exits:
            return
        found = max(exits, key=_rank)
        last = next((exit for exit in exits if exit.part == len(program.parts) - 1), None)
        is_best = self.record is None or _rank(found) > _rank(self.record.exit)
        is_whole = last is not None and (
            self.whole is None or last.accuracy > self.whole.exit.accuracy
        )
        weights = None
        if self._folder is not None and (is_best or is_whole):
            weights = self._folder.write_tensors("best", distinct_state(program))
        elif is_best:
            self._tensors = distinct_state(program)
        if is_best:
            self.record, self.weights = Best(found, epoch, tuple(exits)), weights
        if last is not None and is_whole:
            self.whole, self.whole_weights = Best(last, epoch, tuple(exits)), weights

    def load_into(self, program: Program) -> None:
        """Load the weights of the best exit, which must exist, into a program.

        Raises:
            CheckpointError: they cannot be read.
        """
        if self._folder is None:
            assert self._tensors is not None, "there is no best exit yet"
            load_weights(program, self._tensors, Path("memory"))
        else:
            assert self.weights is not None, "there is no best exit yet"
            tensors = self._folder.read_tensors(self.weights)
            load_weights(program, tensors, self._folder.path / self.weights.file)


def _rank(exit: Exit) -> tuple[float, int]:
    return exit.accuracy, exit.part
