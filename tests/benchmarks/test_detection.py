"""A tiny run of the benchmark, which can be resumed, and its tables."""

import json
import math
from pathlib import Path
from typing import Any

import detection
import detection_nets
import detection_published
import detection_scene
import detection_tables
import pytest
import torch
from click.testing import CliRunner

from fxtransport.detection import detector_names as detection_names
from fxtransport.objectives import ReverseCrossEntropy


def job(folder: Path, **changes: Any) -> detection.Job:
    given: dict[str, Any] = {
        "data": "digits",
        "how": "VAN",
        "seed": 0,
        "kind": "attack",
        "name": "fgm",
        "images": 150,
        "epochs": 1,
        "quick": True,
        "count_all": False,
        "noisy": False,
        "folder": str(folder),
    }
    return detection.Job(**{**given, **changes})


CHANGES: dict[str, Any] = {
    "data": "patches",
    "how": "LAP",
    "seed": 1,
    "kind": "detector",
    "name": "bim",
    "images": 151,
    "epochs": 2,
    "quick": False,
    "count_all": True,
    "noisy": True,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("detection")


def test_images_are_not_those_of_training(folder: Path) -> None:
    train, rest = detection_nets.pixels("digits", 0)
    given = detection_scene.images_of(job(folder))
    assert len(given.labels) == 150
    shown, others, all_of_them = (
        {image.numpy().tobytes() for image in one.images} for one in (given, train, rest)
    )
    assert not shown & others
    assert shown <= all_of_them


@pytest.mark.parametrize("name", ["textures", "mnist5k", "patches"])
@pytest.mark.parametrize("size", [(1, 8, 8), (3, 32, 32)])
def test_other_images_have_the_size_of_the_set(name: str, size: tuple[int, int, int]) -> None:
    found = detection_nets.other_images(name, size, 50, seed=1)
    assert found.shape == (50, *size)
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.std() > 0.05


def test_networks_are_trained_once(folder: Path) -> None:
    assert set(detection_nets.TRAINED) == {"VAN", "LAP", "RCE"}
    assert isinstance(detection_nets.TRAINED["RCE"]().classification, ReverseCrossEntropy)
    first = detection_nets.trained("digits", "RCE", 0, folder, epochs=1)
    [file] = folder.glob("digits-RCE-0-1.safetensors")
    written = file.stat().st_mtime_ns
    again = detection_nets.trained("digits", "RCE", 0, folder, epochs=1)
    assert file.stat().st_mtime_ns == written
    assert first.accuracy == again.accuracy
    for one, other in zip(first.program.parameters(), again.program.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_cells_say_what_came_out(folder: Path) -> None:
    attack = detection.work(job(folder))
    assert 0 <= attack["success_rate"] <= 1
    assert attack["counts"]["successful"] > 0
    cell = detection.work(job(folder, kind="detector", name="energy"))
    assert cell["refused"] == {}
    protocols = {row["protocol"] for row in cell["rows"]}
    assert protocols == {"seen", "unseen", "worst case", "clean only", "near", "far"}
    seen = [row["tested_on"] for row in cell["rows"] if row["protocol"] == "seen"]
    assert seen == list(detection.ATTACKS)
    assert json.loads(json.dumps(cell))["key"] == cell["key"]
    assert cell["magnitudes"].keys() == {"odin", "mahalanobis"}
    for name in ("odin", "layer-inconsistency", "mahalanobis-noise"):
        other = detection.work(job(folder, kind="detector", name=name))
        assert other["refused"] == {}, other
        clean = {row["protocol"] for row in other["rows"]} & {"clean only"}
        assert bool(clean) != (name == "mahalanobis-noise")
    # noisy copies count as clean, in fitting and in testing
    noisy = detection.work(job(folder, kind="detector", name="energy", noisy=True))
    for row, plain in zip(noisy["rows"], cell["rows"], strict=True):
        assert row["clean"] == 2 * plain["clean"]
    assert noisy["key"] != cell["key"]
    more = detection.work(job(folder, kind="detector", name="relative-mahalanobis", noisy=True))
    assert more["refused"] == {}
    # what cannot be tested is said, and the rest is tested
    few = detection.work(job(folder, kind="detector", name="energy", images=40))
    assert set(few["refused"]) & {"clean only", "worst case, clean only"}
    assert few["rows"]


@pytest.mark.slow
def test_more_clean_images_where_a_covariance_needs_them(folder: Path) -> None:
    found = job(folder, kind="detector", name="relative-mahalanobis")
    assert found.key.endswith("/more clean images")
    clean, more = detection_scene.with_more_clean(found.network)
    assert len(clean) == 150
    # of 719 that the network was not trained on, and none of those to test on
    assert 500 < len(more) <= 569
    assert not {*clean.hashes} & {*more.hashes}
    cell = detection.work(found)
    assert cell["refused"] == {}
    assert {row["clean"] for row in cell["rows"] if row["metrics"]} == {45}


@pytest.mark.slow
def test_other_data_of_which_a_part_was_fitted_on(folder: Path) -> None:
    cell = detection.work(job(folder, kind="other data", name="transport"))
    assert cell["refused"] == {}
    [row] = cell["rows"]
    assert (row["protocol"], row["fitted_on"], row["tested_on"]) == ("near", *["mnist5k"] * 2)
    assert row["attacked"] == 45
    # of a network that was trained for one epoch
    assert row["metrics"]["auroc"] > 0.6


@pytest.mark.slow
def test_detectors_are_attacked_themselves(folder: Path) -> None:
    one, other = (
        detection.work(job(folder, kind="adaptive", name=name, epochs=3))
        for name in ("transport", "mahalanobis")
    )
    for cell in (one, other):
        assert list(cell["evasions"]) == ["decisions", "features", "gradients"], cell
    for found in one["evasions"].values():
        assert found["detected"] > 0
        assert 0 <= found["rate_within"] <= found["rate"] <= 1
    report = detection_tables.make_report([detection.work(job(folder)), one, other])
    assert "| *VAN MH, published* | *25.7* | – |" in report


@pytest.mark.slow
def test_a_run_is_resumed_by_cell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "usable_detectors", lambda: ["energy", "max-softmax"])
    for module in (detection, detection_scene):
        monkeypatch.setattr(module, "ATTACKS", ("fgm", "cw"))
    for names in ("ATTACKED", "KNOW_OTHER_DATA"):
        monkeypatch.setattr(detection, names, ())
    arguments = ["--quick", "--data", "digits", "--network", "VAN", "--seeds", "1"]
    arguments += ["--processes", "0", "--folder", str(folder)]
    result = CliRunner().invoke(detection.main, arguments, catch_exceptions=False)
    assert "## digits" in result.output
    lines = (folder / "cells.jsonl").read_text().splitlines()
    assert len(lines) == 4
    # the last cell was cut off
    (folder / "cells.jsonl").write_text("\n".join([*lines[:3], lines[3][:100]]) + "\n")
    ran: list[str] = []
    original = detection.work

    def note(cell: detection.Job) -> dict[str, Any]:
        ran.append(cell.name)
        return original(cell)

    monkeypatch.setattr(detection, "work", note)
    again = CliRunner().invoke(detection.main, arguments, catch_exceptions=False)
    assert ran == ["max-softmax"]
    assert again.output.partition("## digits")[2] == result.output.partition("## digits")[2]
    tables = CliRunner().invoke(detection.main, [*arguments, "--tables"], catch_exceptions=False)
    assert ran == ["max-softmax"]
    assert "### AUROC, %: unseen" in tables.output


def test_cells_of_other_settings_are_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {job(folder, **{name: value}).key for name, value in CHANGES.items()}
    known |= {job(folder).key}
    assert len(known) == 1 + len(CHANGES)
    monkeypatch.setitem(detection_scene.QUICK, "boundary", {"steps": 31})
    assert job(folder).key not in known


def test_all_detectors_are_tested_and_whole_seeds_come_first() -> None:
    assert {*detection.usable_detectors()} == {*detection_names(), *detection.VARIANTS}
    options = {"images": 150, "epochs": 1, "quick": True, "count_all": False, "noisy": False}
    found = list(detection.jobs(["digits", "patches"], ["VAN"], 2, **options, folder=""))
    nets = [{(job.seed, job.data) for job in one} for one in found]
    assert nets == [{(0, "digits")}, {(0, "patches")}, {(1, "digits")}, {(1, "patches")}]
    kinds = [job.kind for job in found[0]]
    assert kinds == sorted(kinds, key=["attack", "detector", "other data", "adaptive"].index)


def cell(how: str, name: str, seed: int, **figures: float) -> dict[str, Any]:
    metrics = {"auroc": 0.9, "tpr": 0.8, "fpr": 0.1, "successful": 0.8, "fpr95tpr": 0.3}
    rows = [
        {
            "protocol": "seen",
            "tested_on": attack,
            "fitted_on": attack,
            "metrics": {**metrics, "tpr": tpr},
        }
        for attack, tpr in figures.items()
    ]
    about = {"data": "digits", "how": how, "kind": "detector", "name": name, "seed": seed}
    return {**about, "rows": rows, "refused": {}}


def test_tables_have_means_published_figures_and_the_worst_in_bold() -> None:
    cells = [cell("VAN", "transport", seed, fgm=0.9, cw=0.5 + 0.1 * seed) for seed in (0, 1)]
    report = detection_tables.make_report(cells)
    lines = report.splitlines()
    start = lines.index("### Detection accuracy, balanced, %: seen")
    assert lines[start + 2] == "|  | fgm | cw |"
    row = lines[start + 4].split(" | ")
    assert row[1] == "90.0 ± 0.0"
    assert row[2].startswith("**72.5 ± ")
    assert lines[start + 5] == "| *VAN TR, published* | *97.1* | *98.0* |"


def test_published_figures_are_read() -> None:
    found = detection_published.PUBLISHED
    assert found["unseen", "auroc"]["VAN MH"] == {
        "autoattack": 56.46,
        "deepfool": 62.25,
        "cw": 61.59,
        "hsj": 55.89,
    }
    assert found["seen", "accuracy"]["LAP TR"]["boundary"] == 97.02
    assert sum(map(len, found.values())) == 25


def outcome_of(protocol: str, fitted_on: str, tested_on: str, auroc: float) -> dict[str, Any]:
    metrics = {"auroc": auroc, "tpr": 0.8, "fpr": 0.1, "successful": 0.8, "fpr95tpr": 0.3}
    names = {"protocol": protocol, "fitted_on": fitted_on, "tested_on": tested_on}
    return {**names, "metrics": metrics}


def test_the_experiments_on_other_data_stand_beside_the_published_ones() -> None:
    rows = [
        outcome_of("seen", "cw", "cw", 0.91),
        outcome_of("seen", "fgm", "fgm", 0.5),
        outcome_of("near", "patches", "mnist5k", 0.5),
        outcome_of("far", "mnist5k", "patches", 0.92),
        outcome_of("near", "cw", "mnist5k", 0.5),
        outcome_of("far", "cw", "patches", 0.93),
        outcome_of("far", "", "patches", 0.5),
    ]
    about = {"data": "digits", "how": "VAN", "name": "transport", "seed": 0, "refused": {}}
    known = [outcome_of("near", "mnist5k", "mnist5k", 0.94)]
    energy = {**about, "kind": "detector", "name": "energy", "rows": rows}
    report = detection_tables.make_report(
        [
            {**about, "kind": "detector", "rows": rows},
            {**about, "kind": "other data", "rows": known},
            energy,
        ]
    )
    lines = report.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("### AUROC, %: other data"))
    assert lines[start + 2 : start + 6 : 2] == [
        "|  | near, seen | far after near | cw, seen | far after cw |",
        "| VAN transport | 94.0 | 92.0 | 91.0 | 93.0 |",
    ]
    assert lines[start + 5] == "| *VAN TR, published* | *99.6* | *98.7* | *99.3* | *96.3* |"
    # there are no published figures of others, and other tables do not have what was seen
    assert lines[start + 6] == ""
    assert "mnist5k (fitted on mnist5k)" not in report


def test_texts_of_figures() -> None:
    assert detection_tables._text([]) == detection_tables._text([math.nan]) == "–"
    assert detection_tables._text([50.0]) == "50.0"
    figure = detection_tables.FIGURES["fpr"]
    assert detection_tables._bold([[1.0], [3.0], []], figure) == ["1.0", "**3.0**", "–"]
    assert detection_tables._bold([[1.0], [1.0]], figure) == ["1.0", "1.0"]
