"""Many runs of one model, each with other values of a few keys."""

import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxtransport.errors import UsageError, first_line
from fxtransport.files import path_beside, put, read_text
from fxtransport.runs import toml
from fxtransport.runs.combinations import Values
from fxtransport.runs.config import complete_config, parse_assignments

SWEEP = "sweep.json"
"""The file in the folder of a sweep that says what its runs are."""
SHORT = {"program.modules": "k", "trainer.seed": "s"}
"""How the values of these keys begin in the name of a run."""
FIRST = ("objective.method", "program.modules", "program.balance")
"""The keys that come first in names and tables; seeds come last."""
OF_PARTS = ("program.modules", "program.balance")
"""The keys that end-to-end training, which trains the program as one part, does not have."""


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: Of its folder.
        varied: The values that differ between runs, by path.
        values: All that is set, by path.
    """

    name: str
    varied: Values
    values: Values

    def to_toml(self) -> str:
        """A configuration file that sets what the run sets."""
        tables: dict[str, dict[str, Any]] = {}
        for path, value in self.values.items():
            section, _, name = path.partition(".")
            tables.setdefault(section, {})[name] = value
        return toml.dumps(tables)


def read_axis(path: str, text: str) -> list[Any]:
    """The values of a key in a sweep, which commas separate.

    >>> read_axis("program.modules", "2,4"), read_axis("objective.method", "lap,trgl")
    ([2, 4], ['lap', 'trgl'])

    Raises:
        UsageError: there is no such key, or a value occurs twice or is missing.
    """
    pieces = text.split(",")
    found = [parse_assignments([f"{path}={piece}"])[path] for piece in pieces if piece]
    if len(found) < len(pieces) or any(found.count(value) > 1 for value in found):
        raise UsageError(f"{path}: write values that differ, such as 1,2,3, not {text!r}")
    return found


def make_cells(values: Values, axes: Mapping[str, Sequence[Any]]) -> tuple[Cell, ...]:
    """The runs of a sweep: all combinations, of which those that are the same are one.

    A method that trains end to end has one run for all numbers of parts.

    Args:
        values: What all runs set.
        axes: The values of the keys that vary.

    Raises:
        UsageError: a combination has no meaning.

    >>> axes = {"program.modules": [2, 4], "objective.method": ["e2e", "trgl"]}
    >>> [cell.name for cell in make_cells({"model.name": "nets:resnet_m"}, axes)]
    ['e2e', 'trgl-k2', 'trgl-k4']
    """
    order = [*(p for p in FIRST if p in axes), *(p for p in axes if p not in FIRST)]
    order.sort(key=lambda path: path == "trainer.seed")
    cells: dict[str, Cell] = {}
    for chosen in itertools.product(*(axes[path] for path in order)):
        varied = dict(zip(order, chosen, strict=True))
        alone = {path: v for path, v in varied.items() if path not in OF_PARTS}
        if complete_config({**values, **alone})["schedule.name"] == "end-to-end":
            varied = alone
        name = _name(varied)
        cells[name] = Cell(name, varied, {**values, **varied})
        complete_config(cells[name].values)
    for path in OF_PARTS:
        if path in axes and not any(path in cell.varied for cell in cells.values()):
            raise UsageError(
                f"{path} has no meaning where all runs train end to end: add a method that trains "
                "parts, such as trgl, or set schedule.name to parallel"
            )
    return tuple(cells.values())


def note_cells(folder: Path, cells: Sequence[Cell]) -> None:
    """Write down what the runs of a sweep are, or see that they are what was written down.

    Args:
        folder: The sweep's.
        cells: Its runs; those that are written down may be others, whose names differ.

    Raises:
        UsageError: a run of the same name has other values, or the file cannot be used.
    """
    path = folder / SWEEP
    if not os.path.lexists(path) and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} holds other files, and no sweep: give a new output folder")
    known = _read_cells(path)
    for cell in cells:
        now = json.loads(json.dumps(dict(cell.values)))
        before = known.get(cell.name, now)
        for key in dict.fromkeys((*before, *now)):
            if before.get(key) != now.get(key):
                raise UsageError(
                    f"{folder} holds a sweep in which {key} of {cell.name} is "
                    f"{before.get(key, 'not set')}, and now it is {now.get(key, 'not set')}: set "
                    "it back, or give another folder"
                )
        known[cell.name] = now
    try:
        with path_beside(path) as beside:
            beside.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
            put(beside, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _read_cells(path: Path) -> dict[str, dict[str, Any]]:
    if not os.path.lexists(path):
        return {}
    try:
        found = json.loads(read_text(path))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (RecursionError, ValueError) as error:
        raise UsageError(f"{path} is damaged: {first_line(error):.300}") from error
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise UsageError(f"{path} is damaged: it does not name runs")
    return found


def _name(varied: Values) -> str:
    words = [_word(path, value) for path, value in varied.items()]
    return "-".join(words) or "run"


def _word(path: str, value: Any) -> str:
    if path in SHORT:
        return f"{SHORT[path]}{value}"
    text = re.sub(r"[^\w.+]+", "_", str(value))
    return text if path in FIRST else f"{path.partition('.')[2]}={text}"
