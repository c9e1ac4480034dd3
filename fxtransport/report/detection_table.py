"""The tables of ``fxtransport detect``."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from fxtransport.detecting.image_detector import SUSPICIOUS, ImageDetector
from fxtransport.detecting.judging import Judged

if TYPE_CHECKING:
    from rich.console import Console


def show_fitted(console: "Console", found: ImageDetector) -> None:
    """Print what detectors were fitted on, and their thresholds.

    Args:
        console: Where to print.
        found: The detectors.
    """
    about = found.fitted_on
    console.print(
        f"{about.data.name}, {about.split}: fitted on {about.clean} clean images, calibrated with "
        f"{about.calibration} others; the model is right about {about.accuracy:.2%}",
        markup=False,
    )
    if about.attacks:
        console.print()
        table = _table("attack", "success", "counted", "not fooled", "unchanged", "wrong before")
        for attack in about.attacks:
            names = ("counted", "not fooled", "unchanged", "misclassified before")
            counts = (str(attack.counts[name]) for name in names)
            table.add_row(escape(attack.name), f"{attack.success_rate:.1%}", *counts)
        console.print(table)
    console.print()
    table = _table("detector", "threshold at 5 %", "calibration images")
    for name, detector in found.detectors.items():
        calibration = detector.calibration
        assert calibration is not None
        supported = calibration.supports_fpr(0.05)
        threshold = f"{detector.threshold(fpr=0.05):.4g}" if supported else "too few images"
        table.add_row(name, threshold, str(len(calibration.clean)))
    console.print(table)


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


def _table(*columns: str) -> Table:
    """A table without lines; the first column is of texts, the others of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    return table
