"""Observers that write metrics: ``metrics.csv`` always, TensorBoard if asked for."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fxtransport.errors import CheckpointError, UsageError
from fxtransport.training.reports import EpochReport, Exit, Observer, PartEpoch, Plan

METRICS = "metrics.csv"
COLUMNS = (
    "epoch",
    "phase",
    "lap",
    "part",
    "steps",
    "lr",
    "loss",
    "classification",
    "transport",
    "multiplier",
    "validation_accuracy",
    "validation_loss",
    "samples_per_second",
    "peak_memory",
)


class MetricsFile(Observer):
    """Writes ``metrics.csv``: a row for each epoch and part that trained or was validated.

    Epochs count from 1. When a run is resumed, rows after the checkpoint are dropped, since
    these epochs are trained again.

    Args:
        folder: The folder of the run.
        columns: Those of penalties and of monitors, which come last.
    """

    def __init__(self, folder: Path, columns: Sequence[str] = ()) -> None:
        self.path = folder / METRICS
        self._columns = (*COLUMNS, *columns)

    def on_start(self, plan: Plan) -> None:
        """Keep the rows of the epochs that are done."""
        rows = []
        if plan.position.epochs and self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [r for r in csv.DictReader(file) if int(r["epoch"]) <= plan.position.epochs]
        self._write("w", rows, header=True)

    def on_epoch(self, epoch: EpochReport) -> None:
        """Add the epoch's rows."""
        self._write("a", _rows(epoch), header=False)

    def _write(self, mode: str, rows: list[dict[str, Any]], *, header: bool) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self._columns, extrasaction="ignore")
                if header:
                    writer.writeheader()
                writer.writerows(rows)
        except OSError as error:
            raise CheckpointError(f"cannot write {self.path}: {error.strerror}") from error


class TensorBoard(Observer):
    """Writes the same numbers for TensorBoard.

    Args:
        folder: The folder of the run. The events go to ``tensorboard`` in it.

    Raises:
        UsageError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                "TensorBoard is not installed: pip install 'fxtransport[tensorboard]'"
            ) from error
        self._make: Any = SummaryWriter
        self._folder = folder / "tensorboard"
        self._writer: Any = None

    def on_start(self, plan: Plan) -> None:
        """Drop what was written after the checkpoint."""
        self._writer = self._make(str(self._folder), purge_step=plan.position.epochs + 1)

    def on_epoch(self, epoch: EpochReport) -> None:
        """Write the numbers of the epoch, for each part."""
        for row in _rows(epoch):
            for name in [*row][COLUMNS.index("lr") :]:
                if row[name] is not None:
                    tag = f"{name}/part{row['part']}"
                    self._writer.add_scalar(tag, row[name], epoch.position.epochs)
        self._writer.flush()


def _rows(epoch: EpochReport) -> list[dict[str, Any]]:
    """A row for each part that trained or was validated."""
    trained = {part.part: part for part in epoch.parts}
    validated = {exit.part: exit for exit in epoch.exits}
    parts = sorted({*trained, *validated})
    return [_row(epoch, k, trained.get(k), validated.get(k)) for k in parts]


def _row(
    epoch: EpochReport, part: int, trained: PartEpoch | None, exit: Exit | None
) -> dict[str, Any]:
    return {
        "epoch": epoch.position.epochs,
        "phase": epoch.position.phase,
        "lap": epoch.phase.lap,
        "part": part,
        "steps": epoch.position.steps,
        "lr": trained and trained.lr,
        "loss": trained and trained.loss,
        "classification": trained and trained.classification,
        "transport": trained and trained.transport,
        "multiplier": trained and trained.multiplier,
        "validation_accuracy": exit and exit.accuracy,
        "validation_loss": exit and exit.loss,
        "samples_per_second": trained and epoch.samples_per_second,
        "peak_memory": trained and epoch.peak_memory,
        **(trained.penalties if trained else {}),
        **epoch.measured,
    }
