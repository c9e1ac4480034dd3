"""The benchmark of heads: cells are trained once, and small heads compared in pairs with DGL's."""

import json
from pathlib import Path
from typing import Any

import common
import heads
import pytest
from click.testing import CliRunner

SMALL = heads.Task(size=8, image_channels=1, channels=4, train=64, epochs=1)
JOB = heads.Job("digits", "VanGL", heads.DGL, 0, "cpu")


def run() -> str:
    arguments = ["--processes", "0", "--seeds", "2", "--data", "digits"]
    return CliRunner().invoke(heads.main, arguments, catch_exceptions=False).output


def refuse(job: heads.Job) -> dict[str, Any]:
    raise AssertionError(f"{job.cell} was trained again")


def test_a_cell_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (common, heads):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setitem(heads.TASKS, "digits", SMALL)
    heads.heads_of.cache_clear()
    first = run()
    cells = json.loads((tmp_path / "heads.cpu.json").read_text())["results"]
    assert len(cells) == 4
    assert "digits, VanGL, dgl, seed 1" in cells
    assert all(len(cell["accuracies"]) == heads.MODULES for cell in cells.values())
    monkeypatch.setattr(heads, "train", refuse)
    assert run() == first
    # with other heads it is another cell
    cells["digits, VanGL, 2 %, seed 0"]["heads"][0]["width"] += 1
    (tmp_path / "heads.cpu.json").write_text(json.dumps({"results": cells}))
    with pytest.raises(AssertionError, match="2 %, seed 0 was trained again"):
        run()
    heads.heads_of.cache_clear()


def test_small_heads_cost_less_than_dgls() -> None:
    small = heads.heads_of(JOB._replace(head=heads.head_of(2)))
    large = heads.heads_of(JOB)
    assert len(small) == len(large) == heads.MODULES - 1
    for one, other in zip(small, large, strict=True):
        assert one["percent_of_flops"] <= 2 < other["percent_of_flops"]
        assert one["percent_of_bytes"] <= 4 < other["percent_of_bytes"]


@pytest.mark.parametrize(
    ("small", "verdict"),
    [([90, 80, 91], "loses nothing"), ([90, 80, 70], "gains"), ([50, 40, 30], "loses")],
)
def test_last_exits_are_compared_seed_by_seed(small: list[float], verdict: str) -> None:
    large = [89.0, 79.5, 69.3] if verdict != "loses" else [80.0, 71.0, 60.0]
    size = {"pooled": 2, "width": 8, "percent_of_flops": 1.0, "percent_of_bytes": 1.0}
    cells = {
        JOB._replace(head=head, seed=seed): {"heads": [size], "accuracies": [0.0, last]}
        for head, row in (("dgl", large), ("2 %", small))
        for seed, last in enumerate(row)
    }
    table = heads.table_of(cells, exits=2)
    assert list(table.columns[-1].cells) == ["", verdict]
