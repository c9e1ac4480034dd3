"""The worst row of each detector is found."""

from fxtransport.detection.results import Row, worst


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
