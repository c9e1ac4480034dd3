"""The tables of the detection benchmark, in the layout of the thesis's, with its figures beside."""

import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detection_answers import answers
from detection_published import (
    OTHER_COLUMNS,
    PUBLISHED,
    PUBLISHED_EVASIONS,
    PUBLISHED_OTHER,
    short,
)
from intervals import Mean, mean_of

Cell = dict[str, Any]
"""A line of the file of results."""
NONE = "–"
OF_DETECTORS = ("detector", "other data")
"""The kinds of cells with rows of a detector that was fitted and tested."""


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
        both = [cell for cell in own if cell["kind"] in OF_DETECTORS]
        for name in PUBLISHED_OTHER:
            yield from _by_experiment(both, name)
        yield from (_table(*each) for each in answers(detectors))
        yield from _magnitudes(detectors)
        adaptive = [cell for cell in own if cell["kind"] == "adaptive"]
        yield from _evasions(adaptive)
        yield from _refused([*both, *adaptive])


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
        published = PUBLISHED_EVASIONS.get(short(label), {})
        if published:
            texts = [f"*{published[c]:.1f}*" if c in published else NONE for c in columns]
            lines.append([f"*{short(label)}, published*", *texts])
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
        published = PUBLISHED.get((protocol, name), {}).get(short(label))
        if published:
            figures = [f"{published[n]:.1f}" if n in published else NONE for n in names]
            lines.append([f"*{short(label)}, published*", *(f"*{text}*" for text in figures)])
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


def _by_experiment(cells: Sequence[Cell], name: str) -> Iterable[str]:
    """The thesis's tables of other data: what was fitted on near data or on CW, tested on far."""
    figure = FIGURES[name]
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        if short(_label(cell)) in PUBLISHED_OTHER[name]:
            for column, row in _experiments(cell["rows"]):
                values[_label(cell)][column].append(100 * figure.of(row["metrics"]))
    if not values:
        return
    lines = []
    for label, found in values.items():
        lines.append([label, *(_text(found.get(column, [])) for column in OTHER_COLUMNS)])
        figures = (f"*{value:.1f}*" for value in PUBLISHED_OTHER[name][short(label)])
        lines.append([f"*{short(label)}, published*", *figures])
    title = f"{figure.title}: other data, where published near is CIFAR-100 and far is SVHN"
    yield _table(title, OTHER_COLUMNS, lines)


def _experiments(rows: Sequence[dict[str, Any]]) -> Iterable[tuple[str, dict[str, Any]]]:
    """The rows that belong to the columns of :data:`OTHER_COLUMNS`."""
    for row in rows:
        fitted_on, same = row["fitted_on"], row["fitted_on"] == row["tested_on"]
        if not row["metrics"] or not fitted_on:
            continue
        if row["protocol"] == "near" and same:
            yield OTHER_COLUMNS[0], row
        elif row["protocol"] == "far":
            yield OTHER_COLUMNS[3 if fitted_on == "cw" else 1], row
        elif row["protocol"] == "seen" and fitted_on == "cw":
            yield OTHER_COLUMNS[2], row


def _rows(cells: Sequence[Cell], protocol: str) -> Iterable[tuple[Cell, dict[str, Any]]]:
    for cell in cells:
        for row in cell["rows"]:
            if row["protocol"] == protocol and row["metrics"]:
                yield cell, row


def _label(cell: Cell) -> str:
    return f"{cell['how']} {cell['name']}"


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
