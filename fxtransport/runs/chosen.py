"""Which of the weights that a run keeps are loaded, and what was measured with them."""

from dataclasses import dataclass
from pathlib import Path

from fxtransport.errors import UsageError
from fxtransport.training import Exit
from fxtransport.training.checkpoint import Checkpoint, KeptWeights
from fxtransport.training.progress import Progress
from fxtransport.training.tensor_files import Weights


@dataclass(frozen=True)
class Asked:
    """Which weights of a run are asked for; see :func:`fxtransport.runs.load.load_run`."""

    last: bool = False
    average: bool | None = None
    epoch: int | None = None
    exit: int | None = None


@dataclass(frozen=True)
class Chosen:
    """Weights of a run.

    Attributes:
        weights: Their file; None: they are in the last checkpoint itself.
        epochs: After how many epochs the program had them.
        measured: The exits as they were measured on the validation split with them; empty where
            they were not.
    """

    weights: Weights | None
    epochs: int
    measured: tuple[Exit, ...]


def choose_weights(run: Path, checkpoint: Checkpoint, progress: Progress, asked: Asked) -> Chosen:
    """Find the weights that are asked for.

    Raises:
        UsageError: the run does not have them.
    """
    if asked.epoch is not None:
        if asked.last or asked.average is not None or asked.exit is not None:
            raise UsageError(
                "the weights after an epoch are one set: leave out last, average and exit"
            )
        kept = _find_kept(run, checkpoint, asked.epoch)
        return Chosen(kept.weights, kept.epochs, ())
    if asked.average and not progress.averaged:
        raise UsageError(f"{run} has no average of its weights: it was trained without one")
    if asked.last:
        # what was validated is the average, where there is one, at the end of an epoch
        validated = asked.average is not False or not progress.averaged
        same = validated and not progress.position.batch
        return Chosen(None, progress.position.epochs, progress.exits if same else ())
    return _best(run, checkpoint, progress, asked)


def _best(run: Path, checkpoint: Checkpoint, progress: Progress, asked: Asked) -> Chosen:
    """The weights with which an exit was best, or else those of the best exit."""
    if checkpoint.best is None or progress.best is None:
        raise UsageError(f"{run} has no best exit, because nothing was validated: give last=True")
    if asked.average is False and progress.averaged:
        raise UsageError(
            f"the best weights of {run} are an average: for others, give last=True average=False"
        )
    weights, best, whole = checkpoint.best, progress.best, progress.whole
    if checkpoint.whole is not None and whole is not None and asked.exit in (-1, whole.exit.part):
        weights, best = checkpoint.whole, whole
    return Chosen(weights, best.epoch, best.exits or (best.exit,))


def _find_kept(run: Path, checkpoint: Checkpoint, epoch: int) -> KeptWeights:
    for kept in checkpoint.kept:
        if kept.epochs == epoch:
            return kept
    there = ", ".join(str(kept.epochs) for kept in checkpoint.kept)
    raise UsageError(
        f"{run} has no weights of epoch {epoch}: "
        + (f"it kept those of {there}" if there else "it was trained without keep_checkpoints")
    )
