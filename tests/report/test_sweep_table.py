"""Runs that differ in their seed alone are one row."""

from pathlib import Path

import pytest
from rich.console import Console

from fxtransport.report.sweep_table import SweptRun, draw_sweep, groups_of, show_sweep
from fxtransport.training.records import read_record
from tests.training.test_records import written


def runs(folder: Path) -> list[SweptRun]:
    found = []
    for method, seed, accuracy in (("lap", 0, 0.5), ("lap", 1, 0.7), ("trgl", 0, 0.9)):
        own = written(
            folder / f"{method}{seed}",
            f"1,0,{accuracy},1.0,{2**20},10,60",
            results=f'{{"test": {{"accuracy": {accuracy - 0.1}}}}}',
        )
        found.append(SweptRun({"objective.method": method, "trainer.seed": seed}, read_record(own)))
    return [*found, SweptRun({"objective.method": "trgl", "trainer.seed": 1}, None)]


def test_means_over_seeds(tmp_path: Path) -> None:
    console = Console(width=160, record=True)
    show_sweep(console, runs(tmp_path))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert lines[1][:8] == ["lap", "2", "60.00%", "±", "14.14%", "50.00%", "±", "14.14%"]
    assert lines[2] == ["trgl", "1", "of", "2", "90.00%", "80.00%", "1:00", "10", "1.00", "MiB"]


def test_groups(tmp_path: Path) -> None:
    one, two = groups_of(runs(tmp_path))
    assert (one.label, one.planned, len(one.records)) == ("lap", 2, 2)
    assert (two.label, two.planned, len(two.records)) == ("trgl", 2, 1)


def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'plots'")
    figure = draw_sweep(runs(tmp_path))
    accuracy, memory, time = figure.axes
    assert [axis.get_title() for axis in figure.axes] == [
        "test accuracy",
        "peak memory [MiB]",
        "time [s]",
    ]
    assert [*accuracy.lines[0].get_ydata()] == pytest.approx([0.4, 0.6])
    assert [*memory.lines[2].get_ydata()] == [1.0]
    assert [*time.lines[1].get_ydata()] == [60.0, 60.0]
