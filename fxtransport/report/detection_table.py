"""The tables of ``fxtransport detect``."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from fxtransport.detecting.evaluating import Evaluation
from fxtransport.detecting.image_detector import SUSPICIOUS, ImageDetector
from fxtransport.detecting.judging import Judged
from fxtransport.detecting.repeating import SeedsEvaluation
from fxtransport.detecting.trial import ADAPTIVE, CLEAN_ONLY, SEEN, UNSEEN
from fxtransport.detection.metrics import Interval
from fxtransport.detection.results import Row, SeedsRow, worst

if TYPE_CHECKING:
    from rich.console import Console

ATTACKED = (SEEN, UNSEEN, CLEAN_ONLY)
"""The protocols of one attack each."""


def show_fitted(console: "Console", found: ImageDetector) -> None:
    """Print what detectors were fitted on, and their thresholds.

    Args:
        console: Where to print.
        found: The detectors.
    """
    about = found.fitted_on
    copies = "" if about.noisy is None else f" and {about.noisy} noisy copies of them"
    console.print(
        f"{about.data.name}, {about.split}: fitted on {about.clean} clean images{copies}, "
        f"calibrated with {about.calibration} others; the model is right about "
        f"{about.accuracy:.2%}",
        markup=False,
    )
    if about.attacks:
        console.print()
        show_attacks(console, [asdict(attack) for attack in about.attacks])
    for other in about.others:
        console.print(f"to find, too: {other.images} images of {other.name}", markup=False)
    console.print()
    table = _table("detector", "threshold at 5 %", "calibration images")
    for name, detector in found.detectors.items():
        calibration = detector.calibration
        assert calibration is not None
        supported = calibration.supports_fpr(0.05)
        threshold = f"{detector.threshold(fpr=0.05):.4g}" if supported else "too few images"
        table.add_row(name, threshold, str(len(calibration.clean)))
    console.print(table)


def show_attacks(console: "Console", summaries: Iterable[Mapping[str, Any]]) -> None:
    """Print what attacks did.

    Args:
        console: Where to print.
        summaries: Of each attack its ``name`` or ``attack``, ``success_rate``, ``counts`` and
            perhaps ``successful_as_png``.
    """
    rows = list(summaries)
    as_png = any("successful_as_png" in row for row in rows)
    table = _table(
        *("attack", "success", "counted", "not fooled", "unchanged", "wrong before"),
        *(["counted as PNG"] if as_png else []),
    )
    for row in rows:
        names = ("counted", "not fooled", "unchanged", "misclassified before")
        counts = [str(row["counts"][name]) for name in names]
        counts += [str(row["successful_as_png"])] if as_png else []
        table.add_row(row.get("name") or row["attack"], _percent(row["success_rate"]), *counts)
    console.print(table)


def show_evaluation(
    console: "Console", found: ImageDetector, result: Evaluation | SeedsEvaluation
) -> None:
    """Print one table of all detectors and tests; the worst attack of each detector is marked.

    Args:
        console: Where to print.
        found: The detectors.
        result: What came out, of one test each or of several seeds.
    """
    clean = "clean images" if found.fitted_on.noisy is None else "clean images and noisy copies"
    names = ", ".join(found.fitted_on.known)
    known = f"{names} and {clean}" if names else clean
    console.print(
        f"fitted on {known}; the model is right about {_accuracy(result)} of the clean images",
        markup=False,
    )
    if isinstance(result, SeedsEvaluation):
        count = len(result.evaluations)
        console.print(f"fitted and tested with {count} seeds; mean ± 95 % interval, in percent")
    console.print()
    console.print(_evaluation_table(result.rows))
    if any(row.protocol == ADAPTIVE for row in result.rows):
        console.print(_EVADED, markup=False)


_EVADED = """
evaded: of images that fool the model after CW and are found, those that fool it and are not found
after the attack on the detector; near: at most twice as far from the clean image as before"""


def _accuracy(result: Evaluation | SeedsEvaluation) -> str:
    if isinstance(result, SeedsEvaluation):
        return f"{result.accuracy} %"
    return f"{result.accuracy:.2%}"


def _evaluation_table(rows: Sequence[Row] | Sequence[SeedsRow]) -> Table:
    figures = ["auroc", "aupr_in", "aupr_out", "fpr95tpr", "accuracy", "fpr", "successful"]
    evaded = any(row.protocol == ADAPTIVE for row in rows)
    figures += ["evaded", "evaded_near"] if evaded else []
    table = _table(
        *("detector", "tested on", "", "success", "clean", "to find"),
        *("AUROC", "AUPR-in", "AUPR-out", "FPR95TPR", "accuracy", "FPR", "detected"),
        *(("evaded", "near", "") if evaded else ("",)),
    )
    for place in (1, 2):
        table.columns[place].justify = "left"
    attacks = [row for row in rows if row.protocol in ATTACKED]
    several = len({row.tested_on for row in attacks}) > 1
    marked = worst(attacks) if several else {}
    for row in rows:
        is_worst = marked.get(row.detector) is row
        table.add_row(
            *(row.detector, escape(row.tested_on), row.protocol, _percent(row.success_rate)),
            *(_count(row.clean), _count(row.attacked) or "0"),
            *(_percent(row.metrics.get(name)) for name in figures),
            "worst" if is_worst else "",
            style="bold" if is_worst else None,
        )
    return table


def show_judged(console: "Console", judged: Iterable[Judged]) -> None:
    """Print what is said of images.

    Args:
        console: Where to print.
        judged: Images with a verdict.
    """
    table = _table("image", "verdict", "p-value", "score", "predicted")
    for each in judged:
        style = "bold red" if each.verdict == SUSPICIOUS else "green"
        table.add_row(
            escape(each.image),
            f"[{style}]{each.verdict}[/]",
            f"{each.p_value:.4f}",
            f"{each.score:.4g}",
            escape(each.predicted),
        )
    console.print(table)


def _percent(value: float | Interval | None) -> str:
    if isinstance(value, Interval):
        return "" if math.isnan(value.mean) else str(value)
    return "" if value is None or math.isnan(value) else f"{value:.1%}"


def _count(value: float | Interval) -> str:
    """How many images; the mean over seeds. Nothing for none."""
    number = value.mean if isinstance(value, Interval) else value
    return f"{number:.0f}" if number and not math.isnan(number) else ""


def _table(*columns: str) -> Table:
    """A table without lines; the first column is of texts, the others of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    return table
