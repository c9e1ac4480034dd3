"""The cells of the detection benchmark as JSON: means over seeds, with 95 % intervals."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import RESULTS, setting
from detection_tables import OF_DETECTORS, Cell
from intervals import mean_of

METRICS = ("auroc", "aupr_in", "aupr_out", "fpr95tpr", "accuracy", "fpr", "successful")
DETECTORS = ("data", "network", "detector", "protocol", "fitted on", "tested on", "seeds", *METRICS)
ATTACKS = ("data", "network", "attack", "seeds", "accuracy", "success rate", "l2", "linf")
EVASIONS = ("data", "network", "detector", "attack", "seeds", "rate", "rate within")


def write_record(cells: Sequence[Cell], settings: str) -> Path:
    """Write all cells into ``benchmarks/results/``, a line for each mean.

    Args:
        cells: Those of all networks and seeds.
        settings: What the figures depend on, in words.
    """
    tables = {
        "detectors": (DETECTORS, _detectors(cells)),
        "attacks": (ATTACKS, _attacks(cells)),
        "attacks on detectors": (EVASIONS, _evasions(cells)),
    }
    parts = [f'"setting": {json.dumps(setting("cpu"))}', f'"settings": {json.dumps(settings)}']
    for name, (columns, rows) in tables.items():
        lines = ",\n".join(json.dumps(row) for row in rows)
        parts.append(f'"{name}": {{"columns": {json.dumps(columns)}, "rows": [\n{lines}\n]}}')
    path = RESULTS / "detection.cpu.json"
    path.write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")
    return path


def _detectors(cells: Sequence[Cell]) -> list[list[Any]]:
    """Each detector on each test, figures in %."""
    found: dict[tuple[str, ...], list[list[float]]] = defaultdict(list)
    for cell in cells:
        for row in cell["rows"] if cell["kind"] in OF_DETECTORS else ():
            if row["metrics"]:
                tested = (row["protocol"], row["fitted_on"], row["tested_on"])
                values = [100 * row["metrics"].get(name, math.nan) for name in METRICS]
                found[(cell["data"], cell["how"], cell["name"], *tested)].append(values)
    return _means(found)


def _attacks(cells: Sequence[Cell]) -> list[list[Any]]:
    """The accuracy of each network, how often each attack fools it, and how far it goes."""
    found: dict[tuple[str, ...], list[list[float]]] = defaultdict(list)
    for cell in cells:
        if cell["kind"] == "attack":
            values = [cell["accuracy"], 100 * cell["success_rate"], cell["l2"], cell["linf"]]
            found[(cell["data"], cell["how"], cell["name"])].append(values)
    return _means(found, digits=3)


def _evasions(cells: Sequence[Cell]) -> list[list[Any]]:
    """How often attacks on a network with a detector evade it, in %."""
    found: dict[tuple[str, ...], list[list[float]]] = defaultdict(list)
    for cell in cells:
        for name, evasion in cell["evasions"].items() if cell["kind"] == "adaptive" else ():
            values = [100 * evasion["rate"], 100 * evasion["rate_within"]]
            found[(cell["data"], cell["how"], cell["name"], name)].append(values)
    return _means(found)


def _means(found: dict[tuple[str, ...], list[list[float]]], digits: int = 1) -> list[list[Any]]:
    """A row for each key: the key, the number of seeds, and each mean with half its interval.

    None stands for a figure that is not a number, as of an attack that never succeeds.
    """
    rows = []
    for key, values in found.items():
        means = [
            _mean([v for v in column if math.isfinite(v)], digits)
            for column in zip(*values, strict=True)
        ]
        rows.append([*key, len(values), *means])
    return rows


def _mean(values: list[float], digits: int) -> list[float | None] | None:
    if not values:
        return None
    mean, half = mean_of(values)
    return [round(mean, digits), round(half, digits) if math.isfinite(half) else None]
