"""The benchmark of steps: what is measured, its ratios, and a tiny run."""

import json
from pathlib import Path

import common
import pytest
import step_time
from click.testing import CliRunner
from training_cost import Times

from fxtransport.nets import cifar_resnet

NET = step_time.Net("resnet110", 8, (2, 4))


def test_ratios_are_of_the_same_round_and_kind() -> None:
    whole, part = step_time.Step(1, "", "", False), step_time.Step(2, "auto", "TRGL", False)
    times = {
        whole: [Times(1.0, 2.0), Times(2.0, 2.0)],
        whole._replace(compiled=True): [Times(9.0, 9.0)] * 2,
        part: [Times(1.5, 1.0), Times(2.0, 4.0)],
    }
    assert step_time.ratios_of(times, part, "processor") == [1.5, 1.0]
    assert step_time.ratios_of(times, part, "wall") == [0.5, 2.0]


def test_every_partition_has_both_heads_and_methods() -> None:
    steps = step_time.steps_of(NET, (4, 8), compiled=True)
    assert len(steps) == 2 * (1 + 2 + 3)
    assert {step.modules for step in steps} == {1, 4}
    few = step_time.steps_of(NET, (4, 8), False, ["auto"], ["TRGL"])
    assert [step[:3] for step in few] == [(1, "", ""), (4, "auto", "TRGL")]


def test_a_tiny_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(step_time, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(step_time, "NETS", {"resnet110": NET})
    monkeypatch.setattr(step_time, "BATCH", 4)
    monkeypatch.setattr(step_time.Net, "build", lambda _: cifar_resnet(14, width=4, image_size=8))
    arguments = ["--net", "resnet110", "--modules", "2", "--processes", "1", "--rounds", "2"]
    result = CliRunner().invoke(step_time.main, arguments, catch_exceptions=False)
    assert "1.06" in result.output
    [(key, found)] = json.loads((tmp_path / "step_time.cpu.json").read_text())["results"].items()
    assert key == "resnet110, 8×8, eager"
    assert [row["modules"] for row in found["rows"]] == [1, 2, 2, 2, 2, 2]
    assert all([len(each) for each in row["seconds"]] == [2] for row in found["rows"])
    assert all(row["ratio"] > 0 for row in found["rows"][1:])
