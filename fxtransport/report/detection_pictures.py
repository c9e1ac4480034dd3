"""ROC curves and histograms of detectors, drawn by matplotlib."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fxtransport.detecting.evaluating import Evaluation
from fxtransport.detection.detector import Scores
from fxtransport.errors import UsageError
from fxtransport.report.pictures import panels, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS = 40


def draw(results: Sequence[Evaluation], folder: Path) -> Iterator[Path]:
    """Draw ``roc.png``, a curve of each detector in each test, and ``scores-DETECTOR.png``.

    Args:
        results: What came out of tests: once, or with each of several seeds, whose curves are
            all drawn. Scores are those of the first seed, since each fits other detectors.
        folder: Where; it is made if it does not exist.

    Yields:
        The path of each picture.

    Raises:
        UsageError: matplotlib is not installed, or the folder cannot be written.
    """
    require_matplotlib()
    result = results[0]
    tests = list(dict.fromkeys(test for each in results for _, test in each.tested))
    pictures = {"roc.png": _curves(results, tests)} if tests else {}
    pictures |= {f"scores-{name}.png": _histograms(result, name, tests) for name in result.clean}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in pictures.items():
            figure.savefig(folder / name, dpi=120)
            yield folder / name
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}") from error


def _curves(results: Sequence[Evaluation], tests: list[str]) -> "Figure":
    figure, axes = panels(len(tests))
    width = 1.5 if len(results) == 1 else 0.7
    for axis, test in zip(axes, tests, strict=True):
        for place, name in enumerate(results[0].clean):
            label: str | None = name
            for result in results:
                if (name, test) in result.tested:
                    axis.plot(
                        *_curve(result, name, test), f"C{place}", label=label, linewidth=width
                    )
                    label = None
        axis.plot([0, 1], [0, 1], color="0.8", linewidth=1, zorder=0)
        axis.set(title=test, xlabel="false-positive rate", ylabel="detection rate")
        axis.legend(loc="lower right", fontsize="small")
    return figure


def _curve(result: Evaluation, name: str, test: str) -> tuple[Any, Any]:
    """False-positive and detection rates of a detector in a test."""
    from sklearn.metrics import roc_curve

    rates, detected, _ = roc_curve(*_both(result.clean[name], result.tested[name, test]))
    return rates, detected


def _histograms(result: Evaluation, name: str, tests: list[str]) -> "Figure":
    own = [test for test in tests if (name, test) in result.tested]
    figure, axes = panels(max(1, len(own)))
    thresholds = {row.threshold for row in result.rows if row.detector == name and row.metrics}
    for axis, test in zip(axes, own, strict=False):
        _, scores = _both(result.clean[name], result.tested[name, test])
        bins = np.histogram_bin_edges(scores, _BINS)
        for what, part in (("clean", result.clean[name]), (test, result.tested[name, test])):
            axis.hist(part, bins, density=True, alpha=0.6, label=what)
        for threshold in thresholds:
            axis.axvline(threshold, color="0.2", linestyle="--", linewidth=1)
        axis.set(title=f"{name}: {test}", xlabel="score", ylabel="density")
        axis.legend(fontsize="small")
    return figure


def _both(clean: Scores, tested: Scores) -> tuple[Any, Scores]:
    return np.repeat([0, 1], [len(clean), len(tested)]), np.concatenate([clean, tested])
