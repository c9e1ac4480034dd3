"""What a run's folder says of how the run went: its metrics and its results."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fxtransport.errors import UsageError, first_line
from fxtransport.files import read_text
from fxtransport.training.fit import RESULTS
from fxtransport.training.metrics import METRICS, read_rows

_LIMIT = 2**30

Row = Mapping[str, float]
"""A row of ``metrics.csv``: the columns that have a number in it."""


@dataclass(frozen=True)
class RunRecord:
    """How a run went, as far as it is.

    Attributes:
        folder: The run's.
        rows: Of ``metrics.csv``, in order.
        results: Of ``results.json``; None before the end.
    """

    folder: Path
    rows: tuple[Row, ...]
    results: Mapping[str, Any] | None

    @cached_property
    def exits(self) -> tuple[int, ...]:
        """The parts that trained or were validated."""
        return tuple(sorted({int(row["part"]) for row in self.rows}))

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return max((int(row["epoch"]) for row in self.rows), default=0)

    @property
    def seconds(self) -> float | None:
        """How long the run took so far; None in runs of earlier versions."""
        found = self._all("elapsed")
        return max(found) if found else None

    @property
    def peak_memory(self) -> int | None:
        """The largest peak of an epoch, in bytes; None where the system does not say."""
        found = self._all("peak_memory")
        return int(max(found)) if found else None

    @property
    def samples_per_second(self) -> float | None:
        """The median over epochs; None where nothing trained."""
        found = sorted(self._all("samples_per_second"))
        return found[len(found) // 2] if found else None

    @property
    def test_accuracy(self) -> float | None:
        """On the test split; None before the end."""
        test = (self.results or {}).get("test")
        return None if test is None else float(test["accuracy"])

    def curve(self, part: int, column: str) -> tuple[list[int], list[float]]:
        """The epochs in which a part has a number in a column, and the numbers."""
        found = [row for row in self.rows if int(row["part"]) == part and column in row]
        return [int(row["epoch"]) for row in found], [row[column] for row in found]

    def best(self, part: int) -> tuple[float, int] | None:
        """The highest accuracy of an exit in validation, and the first epoch that had it."""
        epochs, accuracies = self.curve(part, "validation_accuracy")
        if not accuracies:
            return None
        highest = max(accuracies)
        return highest, epochs[accuracies.index(highest)]

    def last(self, part: int, column: str) -> float | None:
        """The last number of a part in a column."""
        _, numbers = self.curve(part, column)
        return numbers[-1] if numbers else None

    def _all(self, column: str) -> list[float]:
        return [row[column] for row in self.rows if column in row]


def read_record(folder: Path) -> RunRecord:
    """Read how a run went. The run may still go on.

    Raises:
        UsageError: the folder holds no run, or a file is damaged.
    """
    if not os.path.lexists(folder / METRICS):
        raise UsageError(f"{folder} holds no run of fxtransport train: it has no {METRICS}")
    try:
        _, rows = read_rows(read_text(folder / METRICS, limit=_LIMIT))
        text = read_text(folder / RESULTS) if os.path.lexists(folder / RESULTS) else "null"
        results = json.loads(text)
        if not isinstance(results, dict | None):
            raise ValueError(f"{RESULTS} is no table")
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror}") from error
    except (csv.Error, RecursionError, ValueError) as error:
        raise UsageError(f"{folder} is damaged: {first_line(error):.300}") from error
    numbers = tuple({name: float(value) for name, value in row.items() if value} for row in rows)
    return RunRecord(folder, numbers, results)


def short_names(folders: Sequence[Path]) -> list[str]:
    """A name for each of several folders: as little of their paths as tells them apart.

    >>> short_names([Path("runs/a/one"), Path("runs/b/one")])
    ['a/one', 'b/one']
    """
    paths = [folder.absolute().parts for folder in folders]
    length = 1
    while len({path[-length:] for path in paths}) < len({*paths}):
        length += 1
    return ["/".join(path[-length:]) for path in paths]
