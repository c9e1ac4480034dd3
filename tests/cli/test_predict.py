"""``fxtransport predict``: files, folders and lists, without the run's data."""

import csv
import json
from pathlib import Path

import pytest

from tests.cli.running import Command, trained
from tests.runs.photos import moved, photo_run


@pytest.fixture(scope="module")
def files() -> list[str]:
    """Some of the run's images."""
    return [str(path) for path in sorted(moved().rglob("*.png"))[::5]]


def test_json_has_one_object_for_each_image(run: Command, files: list[str]) -> None:
    result = run("predict", str(photo_run()), *files, "--json", "--topk", "2")
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["image"] for each in found] == files
    for each in found:
        assert list(each) == ["image", "exit", "predicted", "probability", "top"]
        assert len(each["top"]) == 2
        assert each["top"][0] == {"class": each["predicted"], "probability": each["probability"]}
    assert f"{len(files)} images in " in result.stderr


def test_all_exits(run: Command, files: list[str]) -> None:
    result = run("predict", str(photo_run()), *files, "--json", "--exit", "all")
    for line in result.stdout.splitlines():
        found = json.loads(line)
        assert [each["exit"] for each in found["exits"]] == [0, 1]
        assert found["predicted"] == found["exits"][found["exit"]]["predicted"]


def test_csv_has_a_row_for_each_class(run: Command, files: list[str]) -> None:
    arguments = ("--csv", "--topk", "3", "--exit", "0")
    result = run("predict", str(photo_run()), "-", *arguments, stdin="\n".join(files) + "\n")
    assert result.exit_code == 0, result.stderr
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["image"] for row in rows] == [name for name in files for _ in range(3)]
    assert [row["rank"] for row in rows[:3]] == ["1", "2", "3"]
    assert {row["exit"] for row in rows} == {"0"}


def test_the_table_of_a_folder(run: Command) -> None:
    result = run("predict", str(photo_run()), str(moved()), "--exit", "all")
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["image", "exit", "predicted"]
    assert len(lines) == 2 * 60
    assert "60 images in" in result.stderr


def test_what_cannot_be_read_is_told_and_the_others_follow(
    run: Command, files: list[str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    result = run("predict", str(photo_run()), str(bad), "none.png", files[0], "--json")
    assert result.exit_code == 2
    first, second, third = map(json.loads, result.stdout.splitlines())
    assert first["image"] == str(bad)
    assert "cannot be read as an image" in first["error"]
    assert second == {"image": "none.png", "error": "there is no such file"}
    assert third["predicted"]
    assert f"error: {bad}: cannot be read as an image" in result.stderr
    assert "1 image, 2 could not be read in" in result.stderr


BAD = {
    "no run": (["none", "{image}"], "none does not hold a run of fxtransport train"),
    "swapped": (["{image}", "{run}"], "does not hold a run of fxtransport train"),
    "no images": (["{run}"], "Missing argument 'IMAGES...'"),
    "empty folder": (["{run}", "{empty}"], "holds no image"),
    "no exit": (["{run}", "{image}", "--exit", "7"], "there is no trained exit 7: there are 0, 1"),
    "bad exit": (["{run}", "{image}", "--exit", "x"], "write best, all or the number of a part"),
    "no device": (["{run}", "{image}", "--device", "x"], "the device 'x' cannot be used"),
    "no classes": (["{run}", "{image}", "--topk", "0"], "0 is not in the range x>=1"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD.keys())
def test_bad_usage_is_one_clear_line(
    run: Command, files: list[str], tmp_path: Path, arguments: list[str], words: str
) -> None:
    meant = {"{run}": str(photo_run()), "{image}": files[0], "{empty}": str(tmp_path)}
    result = run("predict", *(meant.get(each, each) for each in arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr
    assert len([line for line in result.stderr.splitlines() if "rror: " in line]) == 1


def test_a_run_on_points(run: Command, files: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    quick = ("--data", "moons", "--method", "e2e", "--epochs", "1", "--no-verify")
    result = run("train", "nets:circles", *quick, "--device", "cpu", "--output", str(folder))
    assert result.exit_code == 0, result.stderr
    result = run("predict", str(folder), files[0])
    assert result.exit_code == 2
    assert "was trained on points, not on images: moons" in result.stderr


def test_a_run_without_validation(run: Command, files: list[str], tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--epochs", "1", "--validation", "0")
    result = run("predict", str(folder), files[0], "--trust-files")
    assert "has no best exit, because nothing was validated: give --last" in result.stderr
    result = run("predict", str(folder), files[0], "--trust-files", "--last", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["predicted"] in map(str, range(10))
