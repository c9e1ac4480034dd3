"""``fxtransport detect attack``: attacked sets, and what they did."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.running import Command
from tests.detecting.small import saved, trained_run

FEW = ("--images", "40", "--device", "cpu")


def test_attacked_sets(run: Command, tmp_path: Path) -> None:
    folder = tmp_path / "attacked"
    result = run(
        *("detect", "attack", str(trained_run()), "-o", str(folder), *FEW, "--epsilon", "0.1"),
        *("--attack", "bim{steps=5}", "--attack", "fgm", "--png", "--json"),
    )
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    described = json.loads((folder / "attacks.json").read_text())
    assert described["attacks"] == found
    assert described["split"] == "validation"
    for each in found:
        name, counts = each["attack"], each["counts"]
        tensors = load_file(folder / f"{name}.safetensors")
        clean, attacked = tensors["clean"], tensors["attacked"]
        assert clean.shape == attacked.shape == (40, 1, 8, 8)
        assert 0 < float((attacked - clean).abs().max()) < 0.1001
        right = tensors["before"] == tensors["labels"]
        changed = (attacked != clean).flatten(1).any(1)
        counted = right & changed & (tensors["after"] != tensors["labels"])
        assert torch.equal(counted, tensors["counted"])
        assert counts["counted"] == int(counted.sum()) > 0
        assert each["success_rate"] == pytest.approx(int(counted.sum()) / int(right.sum()))
        assert 0 <= each["successful_as_png"] <= counts["counted"]
        assert len(list((folder / name).glob("*.png"))) == 40
    # what was written can be judged
    scored = run("detect", "score", str(saved()), str(folder / "bim.safetensors"), "--csv")
    assert scored.exit_code == 0, scored.stderr
    assert len(scored.stdout.splitlines()) == 41


def test_the_table(run: Command, tmp_path: Path) -> None:
    folder = tmp_path / "attacked"
    result = run(
        *("detect", "attack", str(trained_run()), "-o", str(folder), *FEW, "--attack", "fgm"),
        *("--split", "test", "--count-all"),
    )
    header, row = result.stdout.splitlines()
    assert header.split()[:3] == ["attack", "success", "counted"]
    assert row.split()[0] == "fgm"
    assert row.split()[2] == "40"
    assert sorted(path.name for path in folder.iterdir()) == ["attacks.json", "fgm.safetensors"]


def test_bad_usage_is_one_clear_line(run: Command, tmp_path: Path) -> None:
    folder = str(tmp_path / "attacked")
    bad = {
        "Missing option '--attack'": [],
        "no attack is called 'x'": ["--attack", "x"],
        "fgm has no setting 'steps'": ["--attack", "fgm{steps=2}"],
        "the attack fgm is named twice": ["--attack", "fgm", "--attack", "fgm"],
    }
    for words, arguments in bad.items():
        result = run("detect", "attack", str(trained_run()), "-o", folder, *arguments)
        assert result.exit_code == 2
        assert words in result.stderr
        assert result.stdout == ""
    assert not Path(folder).exists()
