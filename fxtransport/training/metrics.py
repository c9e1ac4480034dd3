"""Observers that write metrics: ``metrics.csv`` always, TensorBoard if asked for."""

import csv
import io
import itertools
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fxtransport.errors import UsageError, first_line
from fxtransport.files import append_text, read_text
from fxtransport.training.checkpoint import RunFolder
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
    "train_accuracy",
    "validation_top5",
    "elapsed",
)
_LIMIT = 2**30
"""The most bytes of the file: of more rows than any run has."""


class LostMetricsWarning(UserWarning):
    """The rows of earlier epochs could not be read."""


class MetricsFile(Observer):
    """Writes ``metrics.csv``: a row for each epoch and part that trained or was validated.

    Epochs count from 1. When a run is resumed, rows after the checkpoint are dropped, since
    these epochs are trained again.

    Args:
        folder: The folder of the run.
        columns: Those of penalties and of monitors, which come last.
    """

    def __init__(self, folder: Path, columns: Sequence[str] = ()) -> None:
        self._folder = RunFolder(folder)
        self.path = folder / METRICS
        self._columns = (*COLUMNS, *columns)

    def on_start(self, plan: Plan) -> None:
        """Keep the rows of the epochs that are done.

        A file that cannot be read is kept under another name.
        """
        done = plan.position.epochs
        rows: list[dict[str, str]] = []
        if done:
            header, found = self._read(done)
            self._columns = tuple(dict.fromkeys((*header, *self._columns)))
            rows = [row for row in found if int(row["epoch"]) <= done]
        with self._folder.writing():
            self._folder.write_text(METRICS, self._text(rows, header=True))

    def on_epoch(self, epoch: EpochReport) -> None:
        """Add the epoch's rows."""
        with self._folder.writing():
            append_text(self.path, self._text(_rows(epoch), header=not self.path.exists()))

    def _text(self, rows: Sequence[Mapping[str, Any]], *, header: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def _read(self, done: int) -> tuple[Sequence[str], list[dict[str, str]]]:
        """The columns and rows of the file; what is lost of the first epochs is said."""
        header: Sequence[str] = ()
        rows: list[dict[str, str]] = []
        last = 0
        with self._folder.writing():
            try:
                text = read_text(self.path, limit=_LIMIT)
                header, rows = read_rows(text)
                last = max((int(row["epoch"]) for row in rows), default=0)
                said = f"has no rows of epochs {last + 1} to {done}"
            except FileNotFoundError:
                said = "is gone"
            except (csv.Error, ValueError) as error:
                said = f"is damaged ({first_line(error)}) and is kept as {self._set_aside()}"
        if last < done:
            message = f"{self.path} {said}; it goes on with epoch {done + 1}"
            warnings.warn(message, LostMetricsWarning, stacklevel=2)
        return header, rows

    def _set_aside(self) -> str:
        for number in itertools.count(1):
            name = f"metrics-damaged-{number}.csv"
            if not os.path.lexists(self.path.with_name(name)):
                self.path.rename(self.path.with_name(name))
                return name
        raise AssertionError("numbers do not end")


def read_rows(text: str) -> tuple[Sequence[str], list[dict[str, str]]]:
    """The columns and rows of a ``metrics.csv``.

    Raises:
        ValueError: it is not one of ours, or it is damaged.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    header = list(reader.fieldnames or ())
    if len({*header}) < len(header) or not {"epoch", "part"} <= {*header}:
        raise ValueError("its first line does not name its columns")
    rows = list(reader)
    if not text.endswith("\n"):
        raise ValueError("its last line is cut")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise ValueError(f"line {number} has too many or too few values")
        int(row["epoch"])
        for value in filter(None, row.values()):
            float(value)
    return header, rows


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
        for tag, number in numbers_of(epoch).items():
            self._writer.add_scalar(tag, number, epoch.position.epochs)
        self._writer.flush()


def numbers_of(epoch: EpochReport) -> dict[str, float]:
    """The numbers of an epoch as loggers take them, named ``loss/part0`` and so on."""
    return {
        f"{name}/part{row['part']}": row[name]
        for row in _rows(epoch)
        for name in [*row][COLUMNS.index("lr") :]
        if row[name] is not None
    }


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
        "train_accuracy": trained and trained.accuracy,
        "validation_top5": exit and exit.top5,
        "elapsed": epoch.elapsed,
        **(trained.penalties if trained else {}),
        **epoch.measured,
    }
