"""The tables of the detection benchmark, in the layout of the thesis's, with its figures beside."""

import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detection_answers import answers
from intervals import Mean, mean_of

Cell = dict[str, Any]
"""A line of the file of results."""
NONE = "–"


def read_cells(path: Path) -> dict[str, Cell]:
    """The cells in a file by their keys; a last line that was cut off does not count."""
    found: dict[str, Cell] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                cell = json.loads(line)
            except json.JSONDecodeError:
                continue
            found[cell["key"]] = cell
    return found


class Figure(NamedTuple):
    """A figure of a test, and how a table of it is called."""

    title: str
    of: Callable[[dict[str, Any]], float]
    lower_is_better: bool = False


def accuracy(metrics: dict[str, Any]) -> float:
    """What the accuracy is where clean and attacked images are as many."""
    return float((metrics["tpr"] + 1 - metrics["fpr"]) / 2)


FIGURES = {
    "accuracy": Figure("Detection accuracy, balanced, %", accuracy),
    "successful": Figure("Detection rate of successful attacks, %", lambda m: m["successful"]),
    "fpr": Figure("False-positive rate, %", lambda m: m["fpr"], lower_is_better=True),
    "auroc": Figure("AUROC, %", lambda m: m["auroc"]),
    "fpr95": Figure("FPR at 95 % TPR, %", lambda m: m["fpr95tpr"], lower_is_better=True),
}
PUBLISHED_COLUMNS = ("fgm", "bim", "apgd", "autoattack", "deepfool", "cw", "hsj", "boundary")
PUBLISHED_TEXT = """
seen   accuracy VAN TR  97.14  97.54   94.1  88.88  99.98  98.04  99.94  96.56
seen   accuracy RCE TR  95.96  96.16  95.32      -  99.92  89.36      -      -
seen   accuracy LAP TR   98.7  99.28   97.5  94.08  99.84  97.96  99.92  97.02
seen   accuracy VAN MH  87.78  86.78  82.08  80.46   91.5  85.58   85.5   80.2
seen   accuracy RCE MH   93.0   92.3  87.88      -  94.98  83.38      -      -
seen   accuracy LAP MH  95.64  95.38   90.7  89.96   96.7  93.36  94.56  89.62
seen   accuracy VAN NS  94.56  95.04  94.28  88.78  99.78  93.86  99.68   92.1
unseen accuracy VAN TR      -   96.0   89.3   85.1   91.0   93.2   93.0   90.9
unseen accuracy RCE TR      -   93.6   91.8   50.0   63.4   60.5   63.9   52.5
unseen accuracy LAP TR      -   98.8   92.8   84.2   75.5   75.2   76.8   75.0
unseen accuracy VAN MH      -   77.2   77.3   72.1   80.1   79.9   79.7   79.3
unseen accuracy RCE MH      -   82.6   81.5   50.0   81.2   76.0   81.6   68.5
unseen accuracy LAP MH      -   84.9   87.9   81.9   81.6   81.5   81.5   81.4
unseen accuracy VAN NS      -   93.9   92.1   51.8   51.4  50.84   52.1   59.9
seen   auroc    VAN TR      -      -      -  94.91  99.94  98.77  99.95      -
seen   auroc    LAP TR      -      -      -  99.95  99.92  99.96  99.94      -
seen   auroc    VAN MH      -      -      -  81.94   89.6  88.33  86.01      -
seen   auroc    LAP MH      -      -      -  94.17  94.17  94.31  93.45      -
unseen auroc    VAN TR      -      -      -   82.7  90.09  88.84   87.3      -
unseen auroc    VAN MH      -      -      -  56.46  62.25  61.59  55.89      -
seen   fpr      VAN TR    3.3    2.7    6.3    1.9    0.1    2.6    0.1      -
seen   fpr      LAP TR    1.5    0.8      2    1.5    0.2    2.8    0.1      -
seen   fpr      VAN MH   13.9   13.6   18.7   13.3   10.2   12.4   11.9      -
seen   fpr      LAP MH    3.5    3.1    4.7    6.4    4.6    7.4    5.8      -
seen   fpr      VAN NS    5.4    4.8    4.9    2.9    0.4    2.3    0.3      -
"""
"""Of ResNet110 on CIFAR-10: tables 32, 35, 42, 43 and 40 of THESIS, H. TR is the transport forest,
MH Mahalanobis, NS natural scene statistics; all images count as attacked."""


def _published() -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    """By protocol and figure, then by network and detector, then by attack."""
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for line in PUBLISHED_TEXT.strip().splitlines():
        protocol, figure, how, name, *texts = line.split()
        figures = {
            attack: float(text)
            for attack, text in zip(PUBLISHED_COLUMNS, texts, strict=True)
            if text != "-"
        }
        found.setdefault((protocol, figure), {})[f"{how} {name}"] = figures
    return found


PUBLISHED = _published()
PUBLISHED_EVASIONS = {
    "VAN TR": {"decisions": 16.5},
    "VAN MH": {"decisions": 25.7},
    "LAP TR": {"decisions": 6.8, "features": 14.0},
    "LAP MH": {"decisions": 12.9},
}
"""THESIS 5.4.5, of ResNet110 on CIFAR-10, of 1700 images."""
SHORT = {
    "transport": "TR",
    "mahalanobis": "MH",
    "mahalanobis-logistic": "MH",
    "mahalanobis-noise": "MH",
    "nss": "NS",
}


def make_report(cells: Sequence[Cell]) -> str:
    """All tables of some cells, as Markdown."""
    return "\n\n".join(tables(cells)) + "\n"


def tables(cells: Sequence[Cell]) -> Iterable[str]:
    """The tables as Markdown: networks and attacks, then the protocols of each set."""
    if not cells:
        yield "Nothing is there yet."
        return
    for data in dict.fromkeys(cell["data"] for cell in cells):
        own = [cell for cell in cells if cell["data"] == data]
        yield f"## {data}"
        yield _attacks([cell for cell in own if cell["kind"] == "attack"])
        detectors = [cell for cell in own if cell["kind"] == "detector"]
        for protocol in ("seen", "unseen", "clean only"):
            for name in ("accuracy", "successful", "fpr", "auroc"):
                yield from _by_attack(detectors, protocol, name)
        for protocol in ("worst case", "near", "far"):
            for name in ("auroc", "fpr95"):
                yield from _by_fitting(detectors, protocol, name)
        yield from (_table(*each) for each in answers(detectors))
        yield from _magnitudes(detectors)
        adaptive = [cell for cell in own if cell["kind"] == "adaptive"]
        yield from _evasions(adaptive)
        yield from _refused([*detectors, *adaptive])


def _refused(cells: Sequence[Cell]) -> Iterable[str]:
    """Which tests could not be run, how often, and why."""
    counts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for cell in cells:
        for protocol, reason in cell.get("refused", {}).items():
            counts[protocol, reason].append(_label(cell))
    if counts:
        lines = [
            f"- {protocol}, {', '.join(sorted(set(labels)))} ({len(labels)} cells): {reason}"
            for (protocol, reason), labels in counts.items()
        ]
        yield "Not tested:\n\n" + "\n".join(lines)


def _magnitudes(cells: Sequence[Cell]) -> Iterable[str]:
    """How often each magnitude of noise was chosen."""
    chosen: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for cell in cells:
        for name, magnitude in cell.get("magnitudes", {}).items():
            # all detectors of a network have the same
            chosen[cell["how"], name][cell["seed"]] = magnitude
    if chosen:
        lines = [
            f"- {how} {name}: "
            + ", ".join(f"{m:g} ({times})" for m, times in sorted(Counter(found.values()).items()))
            for (how, name), found in chosen.items()
        ]
        yield "Magnitudes of noise that validation chose, and for how many seeds:\n\n" + (
            "\n".join(lines)
        )


def _evasions(cells: Sequence[Cell]) -> Iterable[str]:
    """What share of detected images evades network and detector."""
    names = ("decisions", "features", "gradients")
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        for name, found in cell["evasions"].items():
            values[_label(cell)][name].append(100 * found["rate"])
            values[_label(cell)][f"{name}, near"].append(100 * found["rate_within"])
    if not values:
        return
    columns = [column for name in names for column in (name, f"{name}, near")]
    lines = []
    for label, found in values.items():
        lines.append([label, *(_text(found.get(column, [])) for column in columns)])
        published = PUBLISHED_EVASIONS.get(_short(label), {})
        if published:
            texts = [f"*{published[c]:.1f}*" if c in published else NONE for c in columns]
            lines.append([f"*{_short(label)}, published*", *texts])
    yield _table("Detected images of CW that evade, %", columns, lines)


def _attacks(cells: Sequence[Cell]) -> str:
    """How accurate the networks are, and how often attacks succeed."""
    names = list(dict.fromkeys(cell["name"] for cell in cells))
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        if cell["name"] == names[0]:
            values[cell["how"]]["accuracy"].append(cell["accuracy"])
        values[cell["how"]][cell["name"]].append(100 * cell["success_rate"])
    lines = [
        [how, *(_text(found.get(n, [])) for n in ["accuracy", *names])]
        for how, found in values.items()
    ]
    return _table(
        "Accuracy of the networks, and success rates of attacks, %", ["accuracy", *names], lines
    )


def _by_attack(cells: Sequence[Cell], protocol: str, name: str) -> Iterable[str]:
    """A row for each network and detector, a column for each attack; the worst is bold."""
    figure = FIGURES[name]
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell, row in _rows(cells, protocol):
        values[_label(cell)][row["tested_on"]].append(100 * figure.of(row["metrics"]))
    if not values:
        return
    names = list(dict.fromkeys(name for found in values.values() for name in found))
    lines = []
    for label, found in values.items():
        lines.append([label, *_bold([found.get(n, []) for n in names], figure)])
        published = PUBLISHED.get((protocol, name), {}).get(_short(label))
        if published:
            figures = [f"{published[n]:.1f}" if n in published else NONE for n in names]
            lines.append([f"*{_short(label)}, published*", *(f"*{text}*" for text in figures)])
    yield _table(f"{figure.title}: {protocol}", names, lines)


def _by_fitting(cells: Sequence[Cell], protocol: str, name: str) -> Iterable[str]:
    """A row for each network and detector, a column for what it was fitted and tested on."""
    figure = FIGURES[name]
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell, row in _rows(cells, protocol):
        column = f"{row['tested_on']} (fitted on {row['fitted_on'] or 'clean'})"
        values[_label(cell)][column].append(100 * figure.of(row["metrics"]))
    if not values:
        return
    names = list(dict.fromkeys(name for found in values.values() for name in found))
    lines = [[label, *(_text(found.get(n, [])) for n in names)] for label, found in values.items()]
    yield _table(f"{figure.title}: {protocol}", names, lines)


def _rows(cells: Sequence[Cell], protocol: str) -> Iterable[tuple[Cell, dict[str, Any]]]:
    for cell in cells:
        for row in cell["rows"]:
            if row["protocol"] == protocol and row["metrics"]:
                yield cell, row


def _label(cell: Cell) -> str:
    return f"{cell['how']} {cell['name']}"


def _short(label: str) -> str:
    how, _, name = label.partition(" ")
    return f"{how} {SHORT.get(name, name)}"


def _bold(columns: Sequence[list[float]], figure: Figure) -> list[str]:
    """The texts of a row, of which the worst is bold, unless all are alike."""
    means = [statistics.fmean(one) if one else math.nan for one in columns]
    known = [mean for mean in means if not math.isnan(mean)]
    worst = (max if figure.lower_is_better else min)(known) if len({*known}) > 1 else math.nan
    return [
        f"**{_text(one)}**" if mean == worst else _text(one)
        for one, mean in zip(columns, means, strict=True)
    ]


def _text(values: list[float]) -> str:
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return NONE
    found: Mean = mean_of(numbers)
    return f"{found.mean:.1f}" if math.isinf(found.half) else str(found)


def _table(title: str, names: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [["", *names], ["---"] * (len(names) + 1), *lines]
    return f"### {title}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)
