"""``fxtransport evaluate``: exits of a run, on either split, with either weights."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Command, in_process, state_of, trained
from tests.runs.photos import moved, photo_run
from tests.training.runs import rewrite_checkpoint


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three parts; tests may not change it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = ["--method", "vangl", "--modules", "3", "--epochs", "3", "--lr", "0.1"]
    return trained(in_process, folder, *options, "--ema", "0.5")


def measured(run: Command, *arguments: str) -> dict[str, Any]:
    """The JSON object that an evaluation prints."""
    result = run("evaluate", "--trust-files", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_last_weights_have_the_figures_of_the_last_validation(
    run: Command, finished: Path
) -> None:
    found = measured(run, str(finished), "--last")
    assert found["exits"] == state_of(finished)["exits"]
    assert [exit["part"] for exit in found["exits"]] == [0, 1, 2]
    assert (found["split"], found["weights"], found["epochs"]) == ("validation", "last", 3)


def test_the_best_weights_have_the_figures_of_the_best_exit(run: Command, finished: Path) -> None:
    best = state_of(finished)["best"]
    found = measured(run, str(finished), "--exit", "best")
    assert found["exits"] == [best["exit"]]
    assert found["best_exit"] == best["exit"]["part"]
    assert found["epochs"] == best["epoch"]


def test_the_test_split_is_measured_as_at_the_end_of_the_run(run: Command, finished: Path) -> None:
    found = measured(run, str(finished), "--split", "test")
    assert found["exits"] == [state_of(finished)["test"]]


def test_one_exit(run: Command, finished: Path) -> None:
    every = measured(run, str(finished))["exits"]
    assert measured(run, str(finished), "--exit", "1")["exits"] == every[1:2]


def test_the_table(run: Command, finished: Path) -> None:
    result = run("evaluate", "--trust-files", str(finished))
    assert result.exit_code == 0
    best = state_of(finished)["best"]["exit"]
    [line] = [line for line in result.stdout.splitlines() if "best" in line]
    assert line.split() == [
        str(best["part"]),
        f"{best['accuracy']:.2%}",
        f"{best['loss']:.4f}",
        "best",
    ]
    assert len(result.stdout.splitlines()) == 4


def test_a_part_that_has_not_been_trained_yet_has_no_exit(run: Command, tmp_path: Path) -> None:
    # part 0 is all that a checkpoint of the first phase knows
    options = ["--method", "vangl", "--modules", "2", "--schedule", "sequential", "--epochs", "1"]
    folder = trained(run, tmp_path / "run", *options)

    def forget(content: dict[str, Any]) -> None:
        exits = next(pair for pair in content["state"]["dict"] if pair[0] == "exits")
        del exits[1][1:]

    rewrite_checkpoint(folder, forget)
    assert [e["part"] for e in measured(run, str(folder))["exits"]] == [0]
    result = run("evaluate", "--trust-files", str(folder), "--exit", "1")
    assert result.exit_code == 2
    assert "there is no trained exit 1: there are 0" in result.stderr


BAD = {
    "no run": (["{run}/none"], "{run}/none does not hold a run of fxtransport train"),
    "no exit": (["{run}", "--exit", "7"], "there is no trained exit 7: there are 0, 1, 2"),
    "bad exit": (
        ["{run}", "--exit", "first"],
        "write best, all or the number of a part, not 'first'",
    ),
    "no device": (["{run}", "--device", "x"], "the device 'x' cannot be used"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD.keys())
def test_bad_usage_is_one_clear_line(
    run: Command, finished: Path, arguments: list[str], words: str
) -> None:
    result = run(
        "evaluate", "--trust-files", *(text.replace("{run}", str(finished)) for text in arguments)
    )
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words.replace("{run}", str(finished)) in result.stderr
    assert len([line for line in result.stderr.splitlines() if "rror: " in line]) == 1


def test_a_run_without_validation(run: Command, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--epochs", "1", "--validation", "0")
    assert "has no best exit" in run("evaluate", "--trust-files", str(folder)).stderr
    assert (
        "has no validation split" in run("evaluate", "--trust-files", str(folder), "--last").stderr
    )
    found = measured(run, str(folder), "--last", "--split", "test")
    assert found["exits"] == [state_of(folder)["test"]]
    assert found["best_exit"] is None


def test_other_data_needs_nothing_of_the_run_but_its_folder(run: Command, tmp_path: Path) -> None:
    """A single image of one class, beside all images that the run had."""
    few = tmp_path / "few"
    first = sorted(moved().iterdir())[1]
    shutil.copytree(first, few / first.name)
    found = json.loads(run("evaluate", str(photo_run()), "--data", str(few), "--json").stdout)
    assert (found["data"], found["split"]) == (str(few), "all")
    assert [exit["part"] for exit in found["exits"]] == [0, 1]
    predicted = run("predict", str(photo_run()), str(few), "--exit", "all", "--json")
    said = [json.loads(line)["exits"] for line in predicted.stdout.splitlines()]
    for exit in found["exits"]:
        right = sum(each[exit["part"]]["predicted"] == first.name for each in said)
        assert exit["accuracy"] == right / exit["samples"]
    result = run("evaluate", str(photo_run()), "--data", str(few), "--exit", "1")
    header, line = result.stdout.splitlines()
    assert header.split()[1:3] == [few.name, "accuracy"]
    assert line.split()[0] == "1"
    assert re.search(r"20 samples in [\d.]+ s: \d+/s", result.stderr)


def test_a_folder_that_has_moved(run: Command) -> None:
    assert "if a folder has moved, --data-dir FOLDER" in run("evaluate", str(photo_run())).stderr
    found = json.loads(
        run("evaluate", str(photo_run()), "--data-dir", str(moved()), "--json").stdout
    )
    best = state_of(photo_run())["best"]
    assert best["exit"] in found["exits"]


OTHER = {
    "own": (["--data", "{own}"], "is what the run was trained on: leave out --data"),
    "other classes": (["--data", "digits"], "has classes that the run does not have: 0, 1, 2 and"),
    "all of its own": (["--split", "all"], "--split all is for other data (--data)"),
    "alone": (["--download"], "--download and --data-arg belong to --data"),
}


@pytest.mark.parametrize(("arguments", "words"), OTHER.values(), ids=OTHER.keys())
def test_other_data_that_cannot_be_measured_on(
    run: Command, arguments: list[str], words: str
) -> None:
    own = str(photo_run().parent / "tiles")
    result = run("evaluate", str(photo_run()), *(a.replace("{own}", own) for a in arguments))
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""
