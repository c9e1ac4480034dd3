"""A run that is resumed goes on otherwise if it is told so, and says it from then on."""

import csv
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from tests.cli.running import Command, last_weights, state_of, trained
from tests.training.test_lock import HOLD

TIMES = ("samples_per_second", "peak_memory", "elapsed")


def same(one: Path, other: Path) -> bool:
    """Whether all tensors of the last checkpoints are the same, bit for bit."""
    mine, theirs = last_weights(one), last_weights(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


def measured(run: Path, first: int = 1) -> list[dict[str, str]]:
    """The rows of ``metrics.csv`` from an epoch on, without what depends on the machine."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["epoch"]) >= first]
    return [{name: v for name, v in row.items() if name not in TIMES} for row in rows]


def resume(run: Command, folder: Path, *options: str, code: int = 0) -> str:
    result = run("train", "--resume", str(folder), "--trust-files", *options)
    assert result.exit_code == code, result.stderr
    return result.stderr


@pytest.mark.parametrize(
    "method",
    [["lap"], ["trgl", "--modules", "2"], ["trgl", "--modules", "2", "--opt", "adamw"]],
    ids=["end to end", "parallel", "adamw"],
)
def test_more_epochs_are_those_of_a_longer_run(
    run: Command, tmp_path: Path, method: list[str]
) -> None:
    options = ["--method", *method, "--ema", "0.9"]
    long = trained(run, tmp_path / "long", *options, "--epochs", "3")
    short = trained(run, tmp_path / "short", *options, "--epochs", "1")
    said = resume(run, short, "--epochs", "3")
    assert "from here on, schedule.epochs is 3, and was 1" in said
    assert "goes on after epoch 1 of 3" in said
    assert same(long, short)
    assert measured(long) == measured(short)
    assert (long / "results.json").read_text() == (short / "results.json").read_text()
    found = tomllib.loads((short / "config.toml").read_text())
    assert found["schedule"]["epochs"] == 3
    assert found["history"]["changes"] == [{"epochs": 1, "schedule.epochs": ["1", "3"]}]
    # it is the run's own from now on
    assert "the run is finished" in resume(run, short)
    assert "history" not in tomllib.loads((long / "config.toml").read_text())


def test_a_longer_cosine_is_that_of_the_longer_run_from_there_on(
    run: Command, tmp_path: Path
) -> None:
    options = ["--method", "e2e", "--sched", "cosine", "--sched-arg", "warmup_epochs=1"]
    long = trained(run, tmp_path / "long", *options, "--epochs", "5")
    short = trained(run, tmp_path / "short", *options, "--epochs", "3")
    resume(run, short, "--epochs", "5")
    rates = [row["lr"] for row in measured(long)]
    assert [row["lr"] for row in measured(short)][3:] == rates[3:]
    assert len({*rates}) == 5


def test_rates_and_their_schedule_may_change_again_and_again(run: Command, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--method", "e2e", "--epochs", "1", "--lr", "0.1")
    resume(run, folder, "--epochs", "2", "--lr", "0.05")
    milestones = ["--sched", "multistep", "--sched-arg", "decay_milestones=3,4"]
    resume(run, folder, "--epochs", "4", *milestones)
    rates = [float(row["lr"]) for row in measured(folder)]
    assert rates == pytest.approx([0.1, 0.05, 0.005, 0.0005])
    assert tomllib.loads((folder / "config.toml").read_text())["history"]["changes"] == [
        {"epochs": 1, "schedule.epochs": ["1", "2"], "optimizer.lr": ["0.1", "0.05"]},
        {
            "epochs": 2,
            "schedule.epochs": ["2", "4"],
            "optimizer.scheduler": ["'none'", "'multistep'"],
            "optimizer.scheduler_options": ["not set", "{'decay_milestones': [3, 4]}"],
        },
    ]


def test_options_of_the_optimizer_and_multipliers_count_from_there_on(
    run: Command, tmp_path: Path
) -> None:
    options = ["--method", "trgl", "--modules", "2", "--tau", "0.5", "--weight-decay", "0"]
    folder = trained(run, tmp_path / "run", *options, "--epochs", "1")
    changes = ["--weight-decay", "0.1", "--momentum", "0.5", "--opt-arg", "nesterov=True"]
    further = ["--clip-grad", "2", "--tau", "0.5,2", "--patience", "5", "--images", "400"]
    said = resume(run, folder, *changes, *further)
    assert "from here on, trainer.grad_clip is 2.0, and was not set" in said
    assert [row["multiplier"] for row in measured(folder)] == ["0.5", "0.5", "0.5", "2.0"]
    [change] = tomllib.loads((folder / "config.toml").read_text())["history"]["changes"]
    assert change == {
        "epochs": 1,
        "schedule.epochs": ["1", "2"],
        "optimizer.weight_decay": ["0.0", "0.1"],
        "optimizer.momentum": ["0.9", "0.5"],
        "optimizer.options": ["not set", "{'nesterov': True}"],
        "objective.tau": ["[0.5]", "[0.5, 2.0]"],
        "trainer.grad_clip": ["not set", "2.0"],
        "trainer.patience": ["not set", "5"],
    }
    # and again, with what was not said as it was
    resume(run, folder, "--epochs", "3", "--opt-arg", "dampening=0")
    text = tomllib.loads((folder / "config.toml").read_text())["optimizer"]
    assert text["options"] == {"nesterov": True, "dampening": 0}
    assert len(measured(folder)) == 6


def test_a_multiplier_that_has_moved_on_cannot_begin_elsewhere(
    run: Command, tmp_path: Path
) -> None:
    folder = trained(run, tmp_path / "run", "--method", "lap", "--epochs", "1")
    said = resume(run, folder, "--epochs", "2", "--lambda0", "0.3", code=2)
    assert "--lambda0 0.3 would change the run" in said
    assert "with --initial-checkpoint from its weights" in said
    resume(run, folder, "--epochs", "2", "--lambda-rate", "0.5", "--update-every", "1")
    multipliers = [float(row["multiplier"]) for row in measured(folder)]
    assert multipliers[1] > multipliers[0] + 0.5


def test_laps_are_added(run: Command, tmp_path: Path) -> None:
    options = ["--method", "vangl", "--schedule", "multi-lap", "--modules", "2", "--epochs", "1"]
    folder = trained(run, tmp_path / "run", *options, "--laps", "1")
    resume(run, folder, "--laps", "2")
    assert [row["epoch"] for row in measured(folder) if row["loss"]] == ["1", "2", "3", "4"]
    assert state_of(folder)["finished"]


@pytest.mark.parametrize(
    ("schedule", "options", "words"),
    [
        ("parallel", ["--epochs", "1"], "the run is past epoch 1, and its schedule would now end"),
        ("sequential", ["--epochs", "3"], "one after the other, only laps can be added"),
        ("parallel", ["--schedule", "sequential"], "--schedule sequential would change the run"),
        ("parallel", ["--opt", "adamw"], "--opt adamw would change the run"),
        ("parallel", ["--opt-arg", "nesterov=3"], "nesterov is true or false, not 3"),
        ("parallel", ["--batch-size", "10"], "--batch-size 10 would change the run"),
        ("parallel", ["--sched", "nonsense"], "timm cannot make the scheduler 'nonsense'"),
    ],
)
def test_what_cannot_change_is_refused_and_leaves_the_run_as_it_was(
    run: Command, tmp_path: Path, schedule: str, options: list[str], words: str
) -> None:
    modules = ["--method", "vangl", "--schedule", schedule, "--modules", "2", "--epochs", "2"]
    folder = trained(run, tmp_path / "run", *modules)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert words in resume(run, folder, *options, code=2)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_run_that_another_process_trains_is_refused(run: Command, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--method", "e2e", "--epochs", "1")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        said = resume(run, folder, "--epochs", "2", code=2)
        other.kill()
    assert f"another process trains in {folder}" in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert "goes on after epoch 1 of 2" in resume(run, folder, "--epochs", "2")


def test_a_file_that_was_edited_is_still_an_error(run: Command, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--method", "e2e", "--epochs", "1")
    config = folder / "config.toml"
    config.write_text(config.read_text().replace("epochs = 1", "epochs = 2"))
    assert "changed after the run began: schedule.epochs is 2" in resume(run, folder, code=2)
