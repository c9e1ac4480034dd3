"""``metrics.csv`` has every epoch once, and TensorBoard the same numbers."""

import csv
import importlib.util
import sys
from pathlib import Path

import pytest

from fxtransport.errors import CheckpointError, UsageError
from fxtransport.objectives import vangl
from fxtransport.training import (
    EndToEnd,
    EpochReport,
    Observer,
    Parallel,
    Plan,
    Position,
    Sequential,
)
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.manifest import HEADER
from fxtransport.training.metrics import COLUMNS, LostMetricsWarning, MetricsFile, read_rows
from fxtransport.training.progress import read_progress
from tests.training.runs import train_stream, trainer_of, validation_stream


class Reports(Observer):
    def __init__(self) -> None:
        self.epochs: list[EpochReport] = []
        self.plan: Plan | None = None

    def on_start(self, plan: Plan) -> None:
        self.plan = plan

    def on_epoch(self, epoch: EpochReport) -> None:
        self.epochs.append(epoch)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_epoch_and_part(tmp_path: Path) -> None:
    reports = Reports()
    trainer = trainer_of(Parallel(2), tmp_path, observers=[reports])
    trainer.fit(train_stream(), validation_stream())
    found = rows(tmp_path)
    assert tuple(found[0]) == COLUMNS
    assert [(row["epoch"], row["part"]) for row in found] == [
        ("1", "0"),
        ("1", "1"),
        ("2", "0"),
        ("2", "1"),
    ]
    for row in found:
        report = reports.epochs[int(row["epoch"]) - 1]
        part, exit = report.parts[int(row["part"])], report.exits[int(row["part"])]
        assert float(row["loss"]) == part.loss
        assert float(row["transport"]) == part.transport
        assert float(row["multiplier"]) == part.multiplier
        assert float(row["lr"]) == part.lr
        assert float(row["validation_accuracy"]) == exit.accuracy
        assert float(row["samples_per_second"]) > 0
        assert int(row["steps"]) == 3 * int(row["epoch"])
        assert int(row["peak_memory"]) > 0
        assert float(row["train_accuracy"]) == part.accuracy
        assert float(row["validation_top5"]) == exit.top5 == 1.0
        assert float(row["elapsed"]) == report.elapsed
    assert 0 < reports.epochs[0].seconds < reports.epochs[0].elapsed < reports.epochs[1].elapsed


def test_parts_that_rest_have_a_row_of_their_exit(tmp_path: Path) -> None:
    trainer_of(Sequential(1), tmp_path).fit(train_stream(), validation_stream())
    [first, rested, second] = rows(tmp_path)
    assert (first["part"], rested["part"], second["part"]) == ("0", "0", "1")
    assert rested["loss"] == ""
    assert rested["validation_accuracy"] == first["validation_accuracy"]
    assert (second["phase"], second["epoch"]) == ("1", "2")


def test_end_to_end_is_one_row(tmp_path: Path) -> None:
    trainer_of(EndToEnd(1), tmp_path, objective=vangl()).fit(train_stream(), validation_stream())
    [row] = rows(tmp_path)
    assert row["part"] == "1"
    assert row["transport"] == row["multiplier"] == ""
    assert row["loss"] == row["classification"] != ""


def test_rows_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    trainer_of(Parallel(2), tmp_path).fit(train_stream(), validation_stream())
    reports = Reports()
    trainer = trainer_of(Parallel(2), tmp_path, observers=[reports])
    trainer.restore()
    before = rows(tmp_path)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("3,0,0,0,9,0.1,,,,,,,,,,,\n")
    trainer.fit(train_stream(), validation_stream())
    assert rows(tmp_path) == before
    assert reports.plan is not None
    assert reports.plan.position.epochs == reports.plan.epochs == 2


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="pip install"):
        trainer_of(Parallel(1), tmp_path, tensorboard=True)


def test_tensorboard_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="needs a run folder"):
        trainer_of(Parallel(1), tensorboard=True)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="needs the extra 'tensorboard'"
)
def test_with_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer_of(Parallel(2), tmp_path, tensorboard=True).fit(train_stream(), validation_stream())
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [round(event.value, 4) for event in events.Scalars("loss/part1")]
    expected = [round(float(row["loss"]), 4) for row in rows(tmp_path) if row["part"] == "1"]
    assert found == expected


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(CheckpointError, match="cannot write"):
        MetricsFile(tmp_path).on_start(Plan((), 1, Position()))


def damaged(text: str) -> list[str]:
    lines = text.splitlines(keepends=True)
    head, row = lines[0], lines[1]
    return [
        "",
        "\n",
        "a,b\n1,2\n",
        text[: len(text) // 2],
        head + row.replace(",", ";"),
        head + row.replace("1", "one", 1),
        head + row.rstrip() + ",3\n",
        head.replace("loss", "part", 1) + row,
        head + "\0" + row,
        head + '"' + row,
    ]


@pytest.mark.parametrize("number", range(10))
def test_what_is_damaged_is_kept_and_said(number: int, tmp_path: Path) -> None:
    text = ",".join(COLUMNS) + "\n1,0,0,0,3,0.1,1.0,1.0,,,0.5,1.5,100.0,9\n"
    (tmp_path / "files.txt").write_text(f"{HEADER}\nmetrics.csv\n")
    path = tmp_path / "metrics.csv"
    path.write_text(damaged(text)[number])
    (tmp_path / "metrics-damaged-1.csv").write_text("mine")
    plan = Plan((), 1, Position(epochs=1))
    with pytest.warns(LostMetricsWarning, match=r"is damaged \(.*kept as metrics-damaged-2\.csv"):
        MetricsFile(tmp_path).on_start(plan)
    assert (tmp_path / "metrics-damaged-2.csv").read_text() == damaged(text)[number]
    assert (tmp_path / "metrics-damaged-1.csv").read_text() == "mine"
    assert rows(tmp_path) == []
    with pytest.warns(LostMetricsWarning, match="has no rows of epochs 1 to 1; it goes on"):
        MetricsFile(tmp_path).on_start(plan)
    path.unlink()
    with pytest.warns(LostMetricsWarning, match=r"is gone; it goes on with epoch 2"):
        MetricsFile(tmp_path).on_start(plan)


def test_columns_of_another_time_are_kept() -> None:
    header, found = read_rows("epoch,part,loss,pl_ratio\n1,0,0.5,\n1,1,,2\n")
    assert header == ["epoch", "part", "loss", "pl_ratio"]
    assert found[1] == {"epoch": "1", "part": "1", "loss": "", "pl_ratio": "2"}


def test_the_time_goes_on_where_a_run_is_resumed(tmp_path: Path) -> None:
    first = trainer_of(Parallel(1), tmp_path)
    first.fit(train_stream(), validation_stream())
    first._engine.state.elapsed = 1000.0
    first.save()
    again = trainer_of(Parallel(1), tmp_path)
    again.restore()
    again.fit(train_stream(), validation_stream())
    again.save()
    assert 1000 <= read_progress(RunFolder(tmp_path).read().state).elapsed < 1100
