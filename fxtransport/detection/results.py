"""What came out of tests of detectors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """What came out of one test.

    Attributes:
        protocol: ``seen``, ``unseen``, ``clean only``, ``worst case``, ``near`` or ``far``.
        detector: Its name.
        fitted_on: What it was fitted on beside clean images; empty for nothing.
        tested_on: What it had to find.
        success_rate: The share of images to test on that the attack succeeded on, among those
            that were classified correctly; NaN of other data.
        metrics: The figures by name; none where no image counts as attacked.
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


def worst(rows: Iterable[Row], figure: str = "auroc") -> dict[str, Row]:
    """Of each detector the row with the smallest figure: what it finds worst.

    Rows without figures do not count.
    """
    found: dict[str, Row] = {}
    for row in rows:
        if not row.metrics:
            continue
        best = found.get(row.detector)
        if best is None or row.metrics[figure] < best.metrics[figure]:
            found[row.detector] = row
    return found
