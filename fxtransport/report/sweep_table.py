"""The runs of a sweep in one table and one picture: accuracy, memory and time."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fxtransport.report.pictures import panels
from fxtransport.report.words import duration, size
from fxtransport.training.records import RunRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

SEED = "trainer.seed"
"""The key over whose values is averaged."""


@dataclass(frozen=True)
class SweptRun:
    """A run of a sweep, as far as it is.

    Attributes:
        varied: The values of the keys that vary, by path.
        record: How it went; None if it has no epoch yet.
    """

    varied: Mapping[str, Any]
    record: RunRecord | None


@dataclass(frozen=True)
class Group:
    """The runs that differ in nothing but their seed."""

    varied: Mapping[str, Any]
    records: tuple[RunRecord, ...]
    planned: int

    @property
    def label(self) -> str:
        """What tells the group from others, in short."""
        return " ".join(map(str, self.varied.values())) or "all"

    def numbers(self, of: Callable[[RunRecord], float | None]) -> list[float]:
        """A number of each run that has it."""
        return [value for value in map(of, self.records) if value is not None]


def best_accuracy(record: RunRecord) -> float | None:
    """The highest accuracy of any exit in validation."""
    found = [best[0] for best in map(record.best, record.exits) if best is not None]
    return max(found, default=None)


NUMBERS: tuple[tuple[str, Callable[[RunRecord], float | None], Callable[[float], str]], ...] = (
    ("validation accuracy", best_accuracy, lambda x: f"{x:.2%}"),
    ("test accuracy", lambda record: record.test_accuracy, lambda x: f"{x:.2%}"),
    ("time", lambda record: record.seconds, duration),
    ("samples/s", lambda record: record.samples_per_second, lambda x: f"{x:.4g}"),
    ("peak memory", lambda record: record.peak_memory, lambda x: size(round(x))),
)
"""What is compared: its heading, how it is found, and how it is written."""
DRAWN = ("test accuracy", "peak memory", "time")
_UNITS = {"peak memory": ("MiB", 2**20), "time": ("s", 1)}


def groups_of(runs: Sequence[SweptRun]) -> list[Group]:
    """Runs that differ in nothing but their seed, together."""
    found: dict[str, list[SweptRun]] = {}
    for run in runs:
        rest = {path: value for path, value in run.varied.items() if path != SEED}
        found.setdefault(repr(rest), []).append(run)
    return [
        Group(
            {path: value for path, value in own[0].varied.items() if path != SEED},
            tuple(run.record for run in own if run.record is not None),
            len(own),
        )
        for own in found.values()
    ]


def show_sweep(console: "Console", runs: Sequence[SweptRun]) -> None:
    """Print a row for each group: means over seeds, with standard deviations.

    Args:
        console: Where to print.
        runs: All runs of the sweep.
    """
    from rich.table import Table

    groups = groups_of(runs)
    paths = list(dict.fromkeys(path for group in groups for path in group.varied))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for path in paths:
        table.add_column(path.partition(".")[2], style="cyan")
    table.add_column("runs", justify="right")
    for heading, _, _ in NUMBERS:
        table.add_column(heading, justify="right")
    for group in groups:
        done = len(group.records)
        count = str(done) if done == group.planned else f"{done} of {group.planned}"
        cells = [str(group.varied.get(path, "–")) for path in paths]
        table.add_row(*cells, count, *(_mean(group.numbers(of), text) for _, of, text in NUMBERS))
    console.print(table)


def draw_sweep(runs: Sequence[SweptRun]) -> "Figure":
    """Draw accuracy, memory and time of each group: a point for each run, a line at the mean.

    Args:
        runs: All runs of the sweep.
    """
    groups = groups_of(runs)
    figure, axes = panels(len(DRAWN), len(DRAWN), (max(4.0, 0.5 * len(groups) + 2), 3.6))
    chosen = [entry for name in DRAWN for entry in NUMBERS if entry[0] == name]
    for axis, (heading, of, _) in zip(axes, chosen, strict=True):
        unit, scale = _UNITS.get(heading, ("", 1))
        for place, group in enumerate(groups):
            values = [value / scale for value in group.numbers(of)]
            axis.plot([place] * len(values), values, f"C{place % 10}o", alpha=0.6)
            if values:
                axis.plot([place - 0.3, place + 0.3], [statistics.mean(values)] * 2, "k-")
        axis.set(title=f"{heading} [{unit}]" if unit else heading)
        axis.set_xticks(range(len(groups)), [group.label for group in groups], rotation=30)
        axis.set_xlim(-0.6, len(groups) - 0.4)
    return figure


def _mean(values: list[float], text: Callable[[float], str]) -> str:
    if not values:
        return ""
    mean = text(statistics.mean(values))
    return mean if len(values) < 2 else f"{mean} ± {text(statistics.stdev(values))}"
