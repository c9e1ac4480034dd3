"""``fxtransport curves``: runs beside one another, read from their folders alone."""

import json
from pathlib import Path

import pytest

from tests.cli.running import Command, in_process, trained


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of two parts and one that trains end to end. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    parts = ["--method", "trgl", "--modules", "2", "--epochs", "2"]
    return (
        trained(in_process, folder / "parts", *parts),
        trained(in_process, folder / "whole", "--method", "e2e", "--epochs", "1"),
    )


def test_table_and_picture(run: Command, runs: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'plots'")
    picture = tmp_path / "curves.svg"
    result = run("curves", *map(str, runs), "--picture", str(picture))
    assert result.exit_code == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[:3] for row in rows[1:] if row[0] in ("parts", "whole")] == [
        ["parts", "0", "2"],
        ["whole", "0", "1"],
    ]
    results = json.loads((runs[0] / "results.json").read_text())
    assert f"{results['test']['accuracy']:.2%}" in result.stdout
    assert picture.read_text().startswith("<?xml")
    assert result.stderr == f"drawn: {picture}\n"


def test_json(run: Command, runs: tuple[Path, Path]) -> None:
    result = run("curves", *map(str, runs), str(runs[0]), "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(each["run"], each["epochs"], each["finished"]) for each in found] == [
        ("parts", 2, True),
        ("whole", 1, True),
    ]
    assert [exit["part"] for exit in found[0]["exits"]] == [0, 1]
    assert all(0 < exit["train_accuracy"] < 1 for exit in found[0]["exits"])


def test_what_is_refused(run: Command, runs: tuple[Path, Path], tmp_path: Path) -> None:
    nothing = run("curves", str(tmp_path))
    assert nothing.exit_code == 2
    assert "holds no run of fxtransport train" in nothing.stderr
    result = run("curves", str(runs[0]), "--picture", str(tmp_path / "a.txt"))
    assert result.exit_code == 2
    assert "says no format of pictures" in result.stderr
    assert result.stdout == ""
