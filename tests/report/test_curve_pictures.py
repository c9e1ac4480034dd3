"""Every number that runs have is drawn, and nothing else."""

from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="needs the extra 'plots'")

from fxtransport.report.curve_pictures import draw_curves
from fxtransport.training.records import read_record
from tests.training.test_records import ROWS, written


def test_one_run(tmp_path: Path) -> None:
    figure = draw_curves([read_record(written(tmp_path, *ROWS, "3,1,0.75,0.5,,,"))])
    accuracy, cost, depth = figure.axes
    assert accuracy.get_title() == "accuracy in validation"
    assert [line.get_label() for line in accuracy.lines] == ["exit 0", "exit 1"]
    assert [*accuracy.lines[0].get_ydata()] == [0.5, 0.75, 0.75]
    assert cost.get_yscale() == "log"
    assert [*depth.lines[0].get_ydata()] == [1.0, 0.5]


def test_several_runs(tmp_path: Path) -> None:
    folders = [written(tmp_path / "one", *ROWS), written(tmp_path / "two", ROWS[0])]
    accuracy, _ = draw_curves([read_record(folder) for folder in folders]).axes
    labels = [line.get_label() for line in accuracy.lines]
    assert labels == ["one, exit 0", "one, exit 1", "two"]
    colors = [line.get_color() for line in accuracy.lines]
    assert colors[0] == colors[1] != colors[2]


def test_a_run_without_an_epoch(tmp_path: Path) -> None:
    [axis] = draw_curves([read_record(written(tmp_path))]).axes
    assert len(axis.lines) == 0
