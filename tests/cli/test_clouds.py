"""``fxtransport clouds``: the points of a run after each block."""

import json
from pathlib import Path

import pytest

from tests.cli.running import Command


def test_circles(run: Command, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'plots'")
    folder, picture = tmp_path / "run", tmp_path / "clouds.png"
    model = ["nets:circles_resnet", "--model-arg", "blocks=2", "--data", "circles"]
    options = ["--method", "fixed", "-n", "1", "--device", "cpu", "-o", str(folder)]
    trained = run("train", *model, *options)
    assert trained.exit_code == 0, trained.stderr
    result = run("clouds", str(folder), "--picture", str(picture), "--samples", "50")
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 3
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = json.loads(run("clouds", str(folder), "--json", "--split", "test").stdout)
    assert found["samples"] == 200
    assert all(block["displacement"] >= block["distance"] > 0 for block in found["blocks"])
    refused = run("clouds", str(folder), "--picture", str(tmp_path / "a.txt"))
    assert (refused.exit_code, refused.stdout) == (2, "")
