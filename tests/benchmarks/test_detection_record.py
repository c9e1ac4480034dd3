"""Means over seeds as JSON, by hand."""

import json
from pathlib import Path
from typing import Any

import detection_record
import pytest


def cells(seed: int, area: float) -> list[dict[str, Any]]:
    """The cells of one seed."""
    about = {"data": "digits", "how": "VAN", "seed": seed}
    row = {"protocol": "seen", "fitted_on": "fgm", "tested_on": "fgm", "metrics": {"auroc": area}}
    empty = {**row, "tested_on": "pgd", "metrics": {}}
    evasions = {"decisions": {"rate": area, "rate_within": 0.5}}
    return [
        {**about, "kind": "detector", "name": "energy", "rows": [row, empty]},
        {
            **about,
            "kind": "attack",
            "name": "fgm",
            "accuracy": 99.0,
            "success_rate": 0.5,
            "l2": 1.0,
            "linf": 0.1,
        },
        {**about, "kind": "adaptive", "name": "transport", "evasions": evasions},
    ]


def test_each_mean_has_its_seeds_and_half_of_its_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection_record, "RESULTS", tmp_path)
    path = detection_record.write_record([*cells(0, 0.9), *cells(1, 0.8)], "ε is 0.1")
    found = json.loads(path.read_text())
    assert found["settings"] == "ε is 0.1"
    assert {"device", "versions"} <= found["setting"].keys()
    [row] = found["detectors"]["rows"]
    named = dict(zip(found["detectors"]["columns"], row, strict=True))
    assert named["seeds"] == 2
    # Student's t for one degree of freedom is 12.706, and the standard error is 5
    assert named["auroc"] == [85.0, 63.5]
    assert named["accuracy"] is None
    assert found["attacks"]["rows"] == [
        ["digits", "VAN", "fgm", 2, [99.0, 0.0], [50.0, 0.0], [1.0, 0.0], [0.1, 0.0]]
    ]
    [evasion] = found["attacks on detectors"]["rows"]
    assert evasion[:5] == ["digits", "VAN", "transport", "decisions", 2]


def test_one_seed_has_no_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection_record, "RESULTS", tmp_path)
    found = json.loads(detection_record.write_record(cells(0, 0.9), "").read_text())
    assert found["detectors"]["rows"][0][-7:][0] == [90.0, None]
