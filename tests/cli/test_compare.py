"""``fxtransport compare``: runs with one another, with their beginning, with files and names."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Command, in_process, trained


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of one network, of two seeds; the first kept its weights. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    options = ["--method", "e2e", "--epochs", "2", "--lr", "0.1"]
    one = trained(in_process, folder / "one", *options, "--keep-checkpoints", "1")
    two = trained(in_process, folder / "two", *options, "--seed", "1")
    return one, two


def found(run: Command, *arguments: object) -> list[dict[str, Any]]:
    """The JSON objects that a comparison prints."""
    result = run("compare", "--trust-files", *map(str, arguments), "--json")
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_two_seeds(run: Command, runs: tuple[Path, Path]) -> None:
    [two] = found(run, *runs)
    assert [pair["a"] for pair in two["pairs"]] == [*(f"blocks.{k}" for k in range(4)), "output"]
    assert all(-0.2 < pair["cka"] < 0.999 for pair in two["pairs"])
    assert 20 <= two["samples"] <= 512
    # its branches have one layer each, so that no neuron can change its place
    assert 0 < two["conditional"]["transport"] == two["conditional"]["l2"]


def test_another_power(run: Command, runs: tuple[Path, Path]) -> None:
    [plain], [other] = found(run, *runs), found(run, *runs, "--ot-p", "1")
    assert (plain["p"], other["p"]) == (None, 1)
    for one, two in zip(plain["pairs"], other["pairs"], strict=True):
        assert 0 < two["soft_matching"] < one["soft_matching"]
        assert two["cka"] == one["cka"]
    assert 0 < other["conditional"]["transport"] < plain["conditional"]["transport"]


def test_a_run_and_itself(run: Command, runs: tuple[Path, Path]) -> None:
    [same] = found(run, runs[0], runs[0])
    assert all(pair["cka"] == pytest.approx(1, abs=1e-6) for pair in same["pairs"])
    assert all(pair["soft_matching"] == 0 for pair in same["pairs"])
    assert same["conditional"]["transport"] == same["conditional"]["l2"] == 0


def test_trained_and_untrained(run: Command, runs: tuple[Path, Path]) -> None:
    one = runs[0]
    [both] = found(run, f"{one}@0", one)
    assert both["a"] == f"{one}@0"
    assert all(0 < pair["cka"] < 0.9999 for pair in both["pairs"])
    [near] = found(run, f"{one}@1", f"{one}@2")
    assert near["conditional"]["transport"] < both["conditional"]["transport"]


def test_along_a_run(run: Command, runs: tuple[Path, Path]) -> None:
    along = found(run, runs[0], "--along", "--samples", "50")
    assert [each["epoch"] for each in along] == [0, 1, 2]
    assert {each["b"] for each in along} == {f"{runs[0]}@0"}
    distances = [each["conditional"]["transport"] for each in along]
    assert distances == sorted(distances)
    assert distances[0] == 0
    result = run("compare", "--trust-files", str(runs[0]), "--along")
    rows = [line.split() for line in result.stdout.splitlines()[-3:]]
    assert [row[0] for row in rows] == ["0", "1", "2"]


def test_an_exported_file_is_its_run(run: Command, runs: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    assert run("export", str(runs[1]), "-o", str(file), "--trust-files", "--best").exit_code == 0
    [same] = found(run, runs[1], file, "--no-conditional")
    assert all(pair["cka"] == pytest.approx(1, abs=1e-6) for pair in same["pairs"])
    assert same["conditional"] is None


def test_the_table_and_the_picture(run: Command, runs: tuple[Path, Path], tmp_path: Path) -> None:
    picture = tmp_path / "layers.png"
    result = run("compare", "--trust-files", *map(str, runs), "--picture", str(picture))
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[2].split()[:2] == ["layer", "neurons"]
    assert lines[3].split()[:2] == ["blocks.0", "8"]
    assert lines[-1].startswith("conditional OT distance ")
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ONE"], "Missing argument 'B', or --along"),
        (["resnet10t", "resnet10t"], "is a run, which knows its data: give --data"),
        (["TWO", "--along"], "kept no weights along the way: train with --keep-checkpoints 1"),
        (["ONE@7", "TWO"], "has no weights of epoch 7: it kept those of 0, 1, 2"),
        (["ONE", "FOLDER"], "holds neither a run of fxtransport train nor a saved program"),
        (["ONE", "TWO", "--data-arg", "tile=2"], "--download belong to --data"),
        (["ONE", "FILE"], "does not say which model its weights are of"),
    ],
)
def test_what_cannot_be_compared(
    arguments: list[str], message: str, run: Command, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    file = next(runs[0].glob("epoch-*"))
    places = {"ONE": runs[0], "TWO": runs[1], "FOLDER": tmp_path, "FILE": file}
    texts = []
    for text in arguments:
        head, at, rest = text.partition("@")
        texts.append(f"{places.get(head, head)}{at}{rest}")
    result = run("compare", "--trust-files", *texts)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
