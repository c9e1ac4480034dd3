"""The runs of a sweep: which there are, what they are called, and that they stay the same."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from fxtransport.errors import UsageError
from fxtransport.runs.config import complete_config, read_config
from fxtransport.runs.sweep import make_cells, note_cells, read_axis

MODEL = {"model.name": "nets:resnet_m", "optimizer.lr": 0.1}


def test_every_combination_once() -> None:
    axes: dict[str, list[Any]] = {
        "trainer.seed": [0, 1],
        "program.balance": ["depth", "flops"],
        "objective.method": ["e2e", "trgl"],
        "program.modules": [2, 4],
    }
    cells = make_cells(MODEL, axes)
    names = [cell.name for cell in cells]
    assert names[:2] == ["e2e-s0", "e2e-s1"]
    assert names[2:] == [
        f"trgl-k{k}-{balance}-s{seed}"
        for k in (2, 4)
        for balance in ("depth", "flops")
        for seed in (0, 1)
    ]
    assert cells[0].values == {**MODEL, "objective.method": "e2e", "trainer.seed": 0}
    assert cells[-1].varied["program.modules"] == 4


def test_other_keys_are_in_the_name() -> None:
    cells = make_cells(MODEL, {"optimizer.lr": [0.1, 0.01]})
    assert [cell.name for cell in cells] == ["lr=0.1", "lr=0.01"]
    assert [cell.values["optimizer.lr"] for cell in cells] == [0.1, 0.01]
    assert [cell.name for cell in make_cells(MODEL, {})] == ["run"]


def test_a_combination_without_a_meaning() -> None:
    with pytest.raises(UsageError, match=r"objective\.tau has no meaning"):
        make_cells({**MODEL, "objective.tau": "1"}, {"objective.method": ["trgl", "vangl"]})


def test_the_file_of_a_run_sets_what_it_is(tmp_path: Path) -> None:
    values = {**MODEL, "data.mixup": {"mixup_alpha": 0.2}, "objective.tau": "0.5,1"}
    [cell] = make_cells(values, {"objective.method": ["trgl"]})
    (tmp_path / "config.toml").write_text(cell.to_toml())
    assert read_config(tmp_path / "config.toml") == cell.values
    assert complete_config(read_config(tmp_path / "config.toml")) == complete_config(cell.values)
    assert tomllib.loads(cell.to_toml())["optimizer"] == {"lr": 0.1}


@pytest.mark.parametrize("text", ["1,", "1,1", ""])
def test_what_is_no_axis(text: str) -> None:
    with pytest.raises(UsageError, match="values that differ, such as 1,2,3"):
        read_axis("trainer.seed", text)
    with pytest.raises(UsageError, match="there is no key"):
        read_axis("trainer.sead", "1")


def test_a_sweep_goes_on_with_the_same_runs_and_with_more(tmp_path: Path) -> None:
    note_cells(tmp_path, make_cells(MODEL, {"trainer.seed": [0, 1]}))
    note_cells(tmp_path, make_cells(MODEL, {"trainer.seed": [1, 2]}))
    other = make_cells({**MODEL, "optimizer.lr": 0.2}, {"trainer.seed": [0]})
    with pytest.raises(UsageError, match=r"optimizer\.lr of s0 is 0\.1, and now it is 0\.2"):
        note_cells(tmp_path, other)
    more = make_cells({**MODEL, "schedule.epochs": 3}, {"trainer.seed": [2]})
    with pytest.raises(UsageError, match=r"schedule\.epochs of s2 is not set, and now it is 3"):
        note_cells(tmp_path, more)
    for damaged in ("{", "[]", '{"s0": 1}'):
        (tmp_path / "sweep.json").write_text(damaged)
        with pytest.raises(UsageError, match="is damaged"):
            note_cells(tmp_path, other)


def test_a_folder_of_other_things_is_no_sweep(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(UsageError, match="holds other files, and no sweep: give a new output"):
        note_cells(tmp_path, ())
    assert not (tmp_path / "sweep.json").exists()
