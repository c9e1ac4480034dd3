"""``fxtransport detect evaluate``: one table, the worst attack marked, and pictures."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.running import Command
from tests.detecting.small import DETECTORS, saved

FEW = ("--images", "60", "--device", "cpu")


def test_the_attacks_that_were_fitted_on_are_the_default(run: Command) -> None:
    result = run("detect", "evaluate", str(saved()), *FEW, "--json")
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["detector"], row["tested_on"]) for row in rows] == [
        (name, "fgm") for name in DETECTORS
    ]
    assert rows[0]["protocol"] == "seen"
    for row in rows:
        assert 0 <= row["metrics"]["auroc"] <= 1
        assert row["attacked"] == row["counts"]["counted"] > 0
        assert row["clean"] == 60


def test_the_table_and_the_pictures(run: Command, tmp_path: Path) -> None:
    result = run(
        *("detect", "evaluate", str(saved()), *FEW, "--attack", "fgm", "--attack", "bim{steps=3}"),
        *("--epsilon", "0.1", "--ood", "mnist5k", "--plots", str(tmp_path / "plots")),
    )
    assert result.exit_code == 0, result.stderr
    assert "fitted on fgm and clean images; the model is right about" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    rows = [line for line in lines if line and line[0] in DETECTORS]
    assert len(rows) == 4 * len(DETECTORS)
    worst = [line for line in rows if line[-1] == "worst"]
    assert sorted(line[0] for line in worst) == sorted(DETECTORS)
    assert {line[1] for line in worst} <= {"fgm", "bim"}
    names = ["roc.png", *(f"scores-{name}.png" for name in DETECTORS)]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(names)
    for name in names:
        with Image.open(tmp_path / "plots" / name) as picture:
            # not empty: it has more than a background
            assert len(picture.convert("L").getcolors(256) or []) > 20
        assert name in result.stderr


def test_intervals_over_seeds(run: Command, tmp_path: Path) -> None:
    options = ("--seeds", "2", "--attack", "fgm", "--attack", "bim{steps=3}", "--epsilon", "0.1")
    plots = tmp_path / "plots"
    ood = ("--ood", "near=mnist5k", "--ood", "far=patches")
    result = run(*("detect", "evaluate", str(saved()), *FEW, *options, *ood, "--plots", str(plots)))
    assert result.exit_code == 0, result.stderr
    assert "with 2 seeds; mean ± 95 % interval, in percent" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    rows = [line for line in lines if line and line[0] in DETECTORS]
    assert {line[2] for line in rows} > {"near", "far"}
    assert all(line.count("±") >= 7 for line in rows)
    assert len([line for line in rows if line[-1] == "worst"]) == len(DETECTORS)
    assert (plots / "roc.png").is_file()
    result = run("detect", "evaluate", str(saved()), *FEW, *options, "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 3 * len(DETECTORS)
    for row in rows:
        assert row["seeds"] == row["metrics"]["auroc"]["count"] == 2
        assert 0 <= row["metrics"]["auroc"]["mean"] <= 1
        assert row["metrics"]["auroc"]["half"] is not None


def test_near_and_far(run: Command) -> None:
    ood = ("--ood", "near=mnist5k", "--ood", "far=patches")
    result = run("detect", "evaluate", str(saved()), *FEW, *ood, "--json")
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["protocol"], row["tested_on"]) for row in rows] == [
        *[("near", "mnist5k")] * len(DETECTORS),
        *[("far", "patches")] * len(DETECTORS),
    ]


CW = "cw{search_steps=3 steps=30 first_weight=1.0}"
QUICK = ("steps=2", "evaluations=10", "iterations=5", "epsilon=0.3", "descents=10")
ADAPTIVE = ("--adaptive", *(word for each in QUICK for word in ("--adaptive-arg", each)))


def test_attacks_that_know_the_detector(run: Command, tmp_path: Path) -> None:
    cache = ("--cache", str(tmp_path / "cache"))
    few = ("--images", "20", "--device", "cpu", "--fpr", "0.2", "--attack", CW)
    result = run("detect", "evaluate", str(saved()), *few, *ADAPTIVE, *cache)
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    kinds = [(line[0], line[1]) for line in lines if line[2:3] == ["adaptive"]]
    assert kinds == [
        (name, kind)
        for name in DETECTORS
        for kind in ("decisions", "features", "gradients")
        if (name, kind) != ("transport", "gradients")
    ]
    assert lines[2][-2:] == ["evaded", "near"]
    assert "at most twice as far from the clean image as before" in result.stdout
    reason = "gradients does not fit the detector transport, which is fitted on attacked images"
    assert f"not tested: {reason}" in result.stderr
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(kept) == 1 + len(kinds)
    again = run("detect", "evaluate", str(saved()), *few, *ADAPTIVE, *cache, "--json")
    rows = [json.loads(line) for line in again.stdout.splitlines()]
    found = [row for row in rows if row["protocol"] == "adaptive"]
    assert [(row["detector"], row["tested_on"]) for row in found] == kinds
    # JSON has no NaN, where a detector had found none
    figures = {row["detector"]: row["metrics"]["evaded"] for row in found}
    assert 0 <= figures["one-class"] <= 1
    assert all(value is None or 0 <= value <= 1 for value in figures.values())
    assert kept == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}


def test_other_data_alone(run: Command) -> None:
    result = run("detect", "evaluate", str(saved()), *FEW, "--ood", "patches", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["protocol"] for row in rows] == ["other data"] * len(DETECTORS)
    assert {row["success_rate"] for row in rows} == {None}


def test_a_missing_package_is_named(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("detect", "evaluate", str(saved()), *FEW, "--plots", str(tmp_path / "plots"))
    assert result.exit_code == 2
    assert "pip install 'fxtransport[plots]'" in result.stderr
    monkeypatch.setitem(sys.modules, "foolbox", None)
    result = run("detect", "evaluate", str(saved()), *FEW)
    assert result.exit_code == 2
    assert "pip install 'fxtransport[attacks]'" in result.stderr


BAD = {
    "no such data": (["--ood", "nosuch"], "'nosuch' is neither a set nor a folder"),
    "data twice": (["--ood", "near=patches", "--ood", "far=patches"], "patches is named twice"),
    "one seed": (["--seeds", "1"], "1 is not in the range x>=2"),
    "points": (["--ood", "moons"], "moons are points of the plane"),
    "no such attack": (["--attack", "fgmm"], "no attack is called 'fgmm'"),
    "adaptive": (["--adaptive-arg", "steps=2"], "--adaptive-arg goes with --adaptive"),
    "setting": (["--adaptive", "--adaptive-arg", "step=2"], "setting 'step'; did you mean steps"),
    "only": (["--adaptive", "--adaptive-arg", "only=hsj"], "only is one of decisions, features"),
    "rate": (["--fpr", "2"], "2.0 is not in the range 0<x<1"),
    "other classes": (["--data", "{folder}"], "has 2 classes, a, b, and the model 10, 0, 1, 2, …"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD.keys())
def test_bad_usage_is_one_clear_line(
    run: Command, tmp_path: Path, arguments: list[str], words: str
) -> None:
    for gray in range(80):
        folder = tmp_path / "ab"[gray % 2]
        folder.mkdir(exist_ok=True)
        Image.new("L", (8, 8), gray).save(folder / f"{gray}.png")
    arguments = [each.replace("{folder}", str(tmp_path)) for each in arguments]
    result = run("detect", "evaluate", str(saved()), *FEW, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr
    assert len([line for line in result.stderr.splitlines() if "rror: " in line]) == 1


def test_without_attacks_there_is_something_to_name(run: Command, tmp_path: Path) -> None:
    from tests.detecting.small import trained_run

    det = str(tmp_path / "det")
    assert run("detect", "fit", str(trained_run()), "-o", det, "--images", "100").exit_code == 0
    result = run("detect", "evaluate", det, *FEW)
    assert result.exit_code == 2
    assert "there is nothing to test on: name an attack, or other data" in result.stderr
