"""The table and the JSON of runs."""

from pathlib import Path

from rich.console import Console

from fxtransport.report.curves import curves_json, show_curves
from fxtransport.training.records import read_record
from tests.training.test_records import ROWS, written


def test_a_row_for_each_run_and_exit(tmp_path: Path) -> None:
    one = written(tmp_path / "one", *ROWS, results='{"test": {"accuracy": 0.625}}')
    two = written(tmp_path / "two", "1,0,0.5,,,,")
    console = Console(width=160, record=True)
    show_curves(console, [read_record(one), read_record(two)])
    lines = [line.split() for line in console.export_text().splitlines()]
    assert lines[1] == ["one", "0", "3", "75.00%", "2", "75.00%", "1", "62.50%", "0:09", "300", "B"]
    assert lines[2] == ["1", "3", "75.00%", "2", "75.00%"]
    assert lines[3] == ["two", "0", "1", "50.00%", "1", "50.00%"]


def test_json(tmp_path: Path) -> None:
    found = curves_json("one", read_record(written(tmp_path, *ROWS)))
    assert (found["run"], found["epochs"], found["finished"], found["seconds"]) == (
        "one",
        3,
        False,
        9,
    )
    assert [exit["best_accuracy"] for exit in found["exits"]] == [0.75, 0.75]
    assert [exit["transport"] for exit in found["exits"]] == [1.0, None]
