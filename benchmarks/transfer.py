"""Transfer by optimal transport: tables 1 to 4 of OT on small sets, beside the published figures.

    python benchmarks/transfer.py [--quick] [--seeds 5] [--table 1]

1. Fine-tuning: the teacher knows whether a digit is odd (on photographs: five of the classes), and
   the student begins with its weights and learns all digits (the other classes) from few images.
2. Compression: a large teacher of all classes, and small and medium students.
3. A smaller architecture for a new task, in one step: the large teacher of 1, a small student from
   scratch, or pre-trained on a tenth of the teacher's images.
4. Fine-tuning on digits with batches of 16 to 128.

The weights of regularizers are chosen by the validation accuracy of other seeds, from the
published ranges; those of table 4 at batches of 64. They follow the accuracies, in
parentheses. A seed is a split, a teacher, an initialization and an order, which all methods share.
Each cell is written as soon as it is done: the same command goes on where it was.
"""

import json
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

import click
from common import RESULTS, merge
from intervals import mean_of, paired
from rich.console import Console
from rich.table import Table
from transfer_nets import (
    LARGE,
    MEDIUM,
    NETS,
    SIZES,
    SMALL,
    TEACHER_EPOCHS,
    Net,
    Plan,
    Schooling,
    Task,
    train,
)
from workers import run_in_processes

TUNING = range(1000, 1002)
FINE_TUNING = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
COMPRESSION = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
BATCHES = (16, 32, 64, 96, 128)
HOW = Schooling(lr=0.02, epochs=20, batch=64)
FEW = 200
MORE = 500

NAMES = {
    "none": "none",
    "l2": "L2",
    "l2-sp": "L2-SP",
    "identity": "Ω_I",
    "uniform": "Ω_U",
    "kd": "Ω_KD",
    "ot": "Ω_P",
}
TUNED = ("none", "l2", "l2-sp", "identity", "uniform", "ot")
COMPRESSED = ("none", "uniform", "kd", "ot")
SMALLER = ("none", "uniform", "ot")
BY_BATCH = ("l2", "l2-sp", "identity", "uniform", "ot")

PUBLISHED = {
    "1": {
        "none": "82.2", "l2": "82.3", "l2-sp": "84.0", "identity": "84.0", "uniform": "83.2",
        "ot": "84.7",
    },
    "2": {
        "none": "91.8 / 93.6", "uniform": "91.8 / 93.8", "kd": "92.4 / 94.0", "ot": "92.8 / 94.5",
    },
    "3": {
        "none": "76.2 / 78.5", "uniform": "– / 80.1", "ot": "75.8 / 83.5",
    },
    "4": {
        "l2": "79.2 83.0 83.6 83.7 83.1", "l2-sp": "83.4 83.7 83.9 83.0 82.9",
        "identity": "82.9 83.7 83.4 82.9 83.2", "uniform": "81.5 84.0 84.7 83.8 83.4",
        "ot": "82.3 84.6 85.2 84.6 83.6",
    },
}  # fmt: skip
"""1: the mean of five sets. 2: CIFAR10, L → S and L → M. 3: Aircraft100, from scratch and lightly
pre-trained. 4: Aircraft100, batches of 16, 32, 64, 96, 128. All in % (OT, tables 1-4, S1)."""


class Column(NamedTuple):
    """A column of a table: all but the regularizer and the seed."""

    table: str
    title: str
    task: Task
    taught: Task
    own: Net
    other: Net
    start: str
    few: int
    batch: int
    methods: tuple[str, ...]
    weights: tuple[float, ...]

    @property
    def key(self) -> str:
        """The name of its cells."""
        return f"{self.table}/{self.title}"

    @property
    def layers(self) -> tuple[tuple[str, str], ...]:
        """What is paired: as published, for fine-tuning an intermediate layer too."""
        last = ("penultimate", "penultimate")
        return (("blocks.1", "blocks.1"), last) if self.table in ("1", "4") else (last,)

    def plan(self, method: str, weight: float, seed: int, split: str, epochs: int) -> Plan:
        """One training."""
        text = "none" if method == "none" else f"{method}:{weight!r}"
        how = HOW._replace(batch=self.batch, epochs=epochs)
        return Plan(
            self.task, self.taught, self.own, self.other, text, self.layers, self.start,
            self.few, how, seed, split,
        )  # fmt: skip


def columns() -> Iterator[Column]:
    """All columns, in the order in which they are computed."""
    for data in SIZES:
        halves = data == "patches"
        new = Task(data, "second" if halves else "all")
        known = Task(data, "first" if halves else "parity")
        yield Column(
            "1", data, new, known, MEDIUM, MEDIUM, "teacher", FEW, HOW.batch, TUNED, FINE_TUNING
        )
    for data in SIZES:
        task = Task(data, "all")
        for name, net in NETS.items():
            if net is not LARGE:
                yield Column(
                    "2", f"{data} L → {name}", task, task, net, LARGE, "scratch", MORE, HOW.batch,
                    COMPRESSED, COMPRESSION,
                )  # fmt: skip
    for data in SIZES:
        halves = data == "patches"
        new = Task(data, "second" if halves else "all")
        known = Task(data, "first" if halves else "parity")
        for start, title in (("scratch", "0%"), ("light", "10%")):
            yield Column(
                "3", f"{data} {title}", new, known, SMALL, LARGE, start, FEW, HOW.batch, SMALLER,
                COMPRESSION,
            )  # fmt: skip
    for batch in BATCHES:
        new, known = Task("digits", "all"), Task("digits", "parity")
        yield Column(
            "4", str(batch), new, known, MEDIUM, MEDIUM, "teacher", FEW, batch, BY_BATCH,
            FINE_TUNING,
        )  # fmt: skip


class Cell(NamedTuple):
    """One training, under the name of its result."""

    key: str
    plan: Plan
    teacher_epochs: int


def work(cell: Cell) -> tuple[float, float]:
    """Its accuracy and its seconds."""
    start = time.perf_counter()
    found = train(cell.plan, cell.teacher_epochs)
    return round(found, 3), round(time.perf_counter() - start, 2)


class Cells:
    """The results so far, which are kept in a file.

    Args:
        keep: Whether to read and write the file.
        processes: How many train at once.
        epochs: Of students.
        teacher_epochs: Of teachers.
    """

    def __init__(self, keep: bool, processes: int, epochs: int, teacher_epochs: int) -> None:
        path = RESULTS / "transfer.cpu.json"
        self.keep, self.processes = keep, processes
        self.epochs, self.teacher_epochs = epochs, teacher_epochs
        self.found: dict[str, list[float]] = {}
        if keep and path.exists():
            self.found = json.loads(path.read_text())["results"]

    def compute(self, wanted: list[tuple[Column, str, float, int, str]]) -> None:
        """Compute the cells that are not there yet."""
        cells = []
        for column, method, weight, seed, split in wanted:
            plan = column.plan(method, weight, seed, split, self.epochs)
            key = self.key(column, method, weight, seed, split)
            if key not in self.found:
                cells.append(Cell(key, plan, self.teacher_epochs))
        # by teacher, so that each process trains few of them
        cells.sort(key=lambda cell: (cell.plan.seed, cell.plan.other, cell.plan.task.data))
        for cell, result in run_in_processes(work, cells, self.processes):
            self.found[cell.key] = list(result)
            if self.keep:
                merge("transfer", "cpu", {cell.key: list(result)})

    def accuracy(self, *cell: object) -> float:
        """That of a cell which is there."""
        return self.found[self.key(*cell)][0]  # type: ignore[arg-type]

    @staticmethod
    def key(column: Column, method: str, weight: float, seed: int, split: str) -> str:
        """The name of a cell."""
        return f"{column.key} {method}:{weight:g} seed {seed} {split}"


def choose(cells: Cells, column: Column, method: str, tuning: range) -> float:
    """The weight of the best mean validation accuracy."""
    weights = (0.0,) if method == "none" else column.weights
    if len(weights) == 1:
        return weights[0]
    cells.compute([(column, method, w, s, "validation") for w in weights for s in tuning])
    means = {
        w: statistics.fmean(cells.accuracy(column, method, w, s, "validation") for s in tuning)
        for w in weights
    }
    return max(means, key=means.__getitem__)


def measure(
    cells: Cells, column: Column, tuned: Column, seeds: range, tuning: range
) -> dict[str, tuple[float, list[float]]]:
    """The chosen weight and the test accuracies of each method of a column."""
    chosen = {m: choose(cells, tuned, m, tuning) for m in column.methods}
    cells.compute([(column, m, w, s, "test") for m, w in chosen.items() for s in seeds])
    return {
        m: (w, [cells.accuracy(column, m, w, s, "test") for s in seeds]) for m, w in chosen.items()
    }


def table_of(number: str, results: dict[str, dict[str, tuple[float, list[float]]]]) -> Table:
    """A table in the layout of the paper: methods by columns, and the published figures."""
    titles = {
        "1": "fine-tuning, test accuracy in %",
        "2": "compression",
        "3": "a smaller architecture for a new task",
        "4": "fine-tuning on digits by batch size",
    }
    table = Table("", *results, "published", title=f"table {number}: {titles[number]}")
    methods = next(iter(results.values()))
    for method in methods:
        cells = []
        for found in results.values():
            weight, values = found[method]
            text = f"{mean_of(values)}" + (f" ({weight:g})" if weight else "")
            first = next(iter(found))
            if method != first and len(values) > 1:
                text += {1: " ▲", 0: "", -1: " ▼"}[paired(values, found[first][1]).sign]
            cells.append(text)
        table.add_row(NAMES[method], *cells, PUBLISHED[number].get(method, ""))
    return table


@click.command()
@click.option("--quick", is_flag=True, help="One seed, weight and epoch, to see that it runs.")
@click.option("--seeds", default=5, show_default=True)
@click.option("--processes", default=1, show_default=True)
@click.option(
    "--table", "tables", multiple=True, type=click.Choice(["1", "2", "3", "4"]), help="Only these."
)
def main(quick: bool, seeds: int, processes: int, tables: tuple[str, ...]) -> None:
    """Tune, train, print and write the tables of transfer."""
    epochs, teacher_epochs = (1, 1) if quick else (HOW.epochs, TEACHER_EPOCHS)
    cells = Cells(not quick, 0 if quick else processes, epochs, teacher_epochs)
    measured = range(1) if quick else range(seeds)
    tuning = TUNING[:1] if quick else TUNING
    every = [*columns()]
    at_64 = next(column for column in every if column.table == "4" and column.batch == HOW.batch)
    for number in tables or ("1", "2", "3", "4"):
        results = {}
        for column in every:
            if column.table == number:
                given = column._replace(weights=column.weights[2:3]) if quick else column
                tuned = at_64 if number == "4" and not quick else given
                results[column.title] = measure(cells, given, tuned, measured, tuning)
        Console(width=150).print(table_of(number, results))
    spent = sum(found[1] for found in cells.found.values())
    print(f"{len(cells.found)} cells, {spent / 3600:.2f} processor-hours")


if __name__ == "__main__":
    main()
