"""The worst row of each detector is found."""

import pytest

from fxtransport.detection.results import Row, rows_over_seeds, worst


def row(detector: str, tested_on: str, **metrics: float) -> Row:
    return Row("unseen", detector, "fgm", tested_on, 0.5, metrics)


def test_the_worst_of_each_detector_is_found() -> None:
    rows = [
        row("a", "bim", auroc=0.9, tpr=0.1),
        row("a", "cw", auroc=0.6, tpr=0.5),
        row("b", "bim", auroc=0.7, tpr=0.3),
        row("b", "cw", auroc=0.8, tpr=0.2),
        row("b", "square"),
    ]
    assert {name: one.tested_on for name, one in worst(rows).items()} == {"a": "cw", "b": "bim"}
    assert worst(rows, "tpr")["a"].tested_on == "bim"
    assert worst([]) == {}


def test_rows_of_seeds_are_joined() -> None:
    """A seed without figures counts in the rate, not in the figures."""
    runs = [
        [row("a", "bim", auroc=0.9), row("a", "cw", auroc=0.4)],
        [row("a", "cw", auroc=0.6), row("a", "bim")],
    ]
    bim, cw = rows_over_seeds(runs)
    assert (bim.tested_on, bim.seeds, bim.metrics["auroc"].count) == ("bim", 2, 1)
    assert (bim.success_rate.mean, bim.success_rate.half) == (0.5, 0)
    # Student's t of one degree of freedom: 12.7 times 0.1
    assert cw.metrics["auroc"].mean == pytest.approx(0.5)
    assert cw.metrics["auroc"].half == pytest.approx(1.2706, rel=1e-3)
    assert worst([bim, cw]) == {"a": cw}
