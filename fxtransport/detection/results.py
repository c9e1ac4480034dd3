"""What came out of tests of detectors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fxtransport.detection.metrics import Interval, interval


@dataclass(frozen=True)
class Row:
    """What came out of one test.

    Attributes:
        protocol: ``seen``, ``unseen``, ``clean only``, ``worst case``, ``adaptive``, ``near``,
            ``far`` or ``other data``.
        detector: Its name.
        fitted_on: What it was fitted on beside clean images; empty for nothing.
        tested_on: What it had to find.
        success_rate: The share of images to test on that the attack succeeded on, among those
            that were classified correctly; NaN of other data.
        metrics: The figures by name; none where no image counts as attacked. Of an adaptive
            attack also ``evaded``, the share of images that had fooled the model and were found
            that fool it and are not found now, and ``evaded_near``, of those no more than twice
            as far from their clean image as before; NaN if none were found before.
        threshold: What the scores of flagged images exceed; NaN where there are no figures.
        clean: How many clean images it was tested on.
        attacked: How many attacked ones, or ones of another distribution.
        counts: What became of the images to test on, see ``Outcome.counts``.
    """

    protocol: str
    detector: str
    fitted_on: str
    tested_on: str
    success_rate: float = float("nan")
    metrics: Mapping[str, float] = field(default_factory=dict)
    threshold: float = float("nan")
    clean: int = 0
    attacked: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SeedsRow:
    """What came out of one test that was repeated with several seeds.

    Attributes:
        protocol: As of :class:`Row`.
        detector: Its name.
        fitted_on: What it was fitted on beside clean images.
        tested_on: What it had to find.
        seeds: How many rows these are of.
        success_rate: Of the attack; see :class:`Row`.
        metrics: The figures by name, each with how many seeds had one; none where no seed had.
        clean: How many clean images it was tested on.
        attacked: How many attacked ones, or ones of another distribution.
    """

    protocol: str
    detector: str
    fitted_on: str
    tested_on: str
    seeds: int
    success_rate: Interval
    metrics: Mapping[str, Interval]
    clean: Interval
    attacked: Interval


def rows_over_seeds(runs: Sequence[Sequence[Row]]) -> tuple[SeedsRow, ...]:
    """The mean of each test over seeds, with its interval by Student's t.

    Args:
        runs: Of each seed, the rows of the same tests, in any order.
    """
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in (row for rows in runs for row in rows):
        key = (row.protocol, row.detector, row.fitted_on, row.tested_on)
        groups.setdefault(key, []).append(row)
    return tuple(_over_seeds(key, rows) for key, rows in groups.items())


def _over_seeds(key: tuple[str, str, str, str], rows: Sequence[Row]) -> SeedsRow:
    measured = [row for row in rows if row.metrics]
    figures = measured[0].metrics if measured else {}
    return SeedsRow(
        *key,
        seeds=len(rows),
        success_rate=interval([row.success_rate for row in rows]),
        metrics={name: interval([row.metrics[name] for row in measured]) for name in figures},
        clean=interval([row.clean for row in measured]),
        attacked=interval([row.attacked for row in rows]),
    )


AnyRow = TypeVar("AnyRow", bound=Row | SeedsRow)


def worst(rows: Iterable[AnyRow], figure: str = "auroc") -> dict[str, AnyRow]:
    """Of each detector the row with the smallest figure, or mean over seeds: what it finds worst.

    Rows without figures do not count.
    """
    found: dict[str, AnyRow] = {}
    for row in rows:
        if not row.metrics:
            continue
        best = found.get(row.detector)
        if best is None or _mean(row.metrics[figure]) < _mean(best.metrics[figure]):
            found[row.detector] = row
    return found


def _mean(value: float | Interval) -> float:
    return value.mean if isinstance(value, Interval) else value
