"""The best exit so far, and the weights with which it was found."""

from collections.abc import Sequence
from pathlib import Path

import torch

from fxtransport.program import Program
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.reports import Best, Exit
from fxtransport.training.tensor_files import Weights
from fxtransport.weights import distinct_state, load_weights


class BestExit:
    """Keeps the weights of the best exit, in the run's folder or in memory.

    The best exit has the highest accuracy on the validation split. Of equals, it is the first
    in time, and then the one after the fewest parts.

    Args:
        folder: The folder of the run; None: keep a copy in memory.
    """

    def __init__(self, folder: RunFolder | None) -> None:
        self._folder = folder
        self._tensors: dict[str, torch.Tensor] | None = None
        self.record: Best | None = None
        self.weights: Weights | None = None
        """The file of the weights, if there is a folder."""

    def offer(self, exits: Sequence[Exit], epoch: int, program: Program) -> None:
        """Keep the best of these exits, if it is better than the best so far.

        Args:
            exits: Exits, measured on the validation split.
            epoch: The number of epochs that are done.
            program: The program whose weights to keep.

        Raises:
            CheckpointError: the weights cannot be written.
        """
        if not exits:
            return
        found = max(exits, key=lambda exit: (exit.accuracy, -exit.part))
        if self.record is not None and found.accuracy <= self.record.exit.accuracy:
            return
        tensors = distinct_state(program)
        if self._folder is None:
            self._tensors = tensors
        else:
            self.weights = self._folder.write_tensors("best", tensors)
        self.record = Best(found, epoch)

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
