"""A run is trained in a folder from which it goes on."""

import tomllib
from pathlib import Path

import pytest
import torch

from fxtransport.errors import CheckpointError
from fxtransport.runs.config import CONFIG, complete_config
from fxtransport.runs.fit import fit_run, write_config
from fxtransport.runs.recipe import Recipe, make_recipe
from fxtransport.training.manifest import FILES


def recipe_of(nets: Path, epochs: int = 1) -> Recipe:
    values = {
        "model.name": f"{nets}:DigitsNet",
        "objective.method": "trgl",
        "schedule.epochs": epochs,
        "program.modules": 2,
        "program.verify": False,
        "data.train_samples": 40,
        "trainer.device": "cpu",
    }
    return make_recipe(complete_config(values))


def test_a_finished_run_is_resumed_without_a_step(nets: Path, tmp_path: Path) -> None:
    recipe = recipe_of(nets)
    trained = recipe.program(new=True)
    report = fit_run(tmp_path, recipe, trained, resume=False)
    assert report.position.epochs == 1
    text = (tmp_path / CONFIG).read_text()
    assert text.startswith(recipe.config.to_toml())
    assert tomllib.loads(text)["splits"]["train"] == {
        "origin": "from the set, without what is held out, limited to 40",
        "samples": 40,
        "classes": 10,
    }
    resumed = recipe.program(new=False)
    assert fit_run(tmp_path, recipe, resumed, resume=True) == report
    for name, value in trained.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_run_of_another_configuration_is_not_resumed(nets: Path, tmp_path: Path) -> None:
    recipe = recipe_of(nets)
    fit_run(tmp_path, recipe, recipe.program(new=True), resume=False)
    before = (tmp_path / CONFIG).read_text()
    other = recipe_of(nets, epochs=2)
    with pytest.raises(CheckpointError, match=r"schedule\.epochs is 2, and was 1; set it back"):
        fit_run(tmp_path, other, other.program(new=False), resume=True)
    assert (tmp_path / CONFIG).read_text() == before


def test_a_configuration_is_written_whole(nets: Path, tmp_path: Path) -> None:
    recipe = recipe_of(nets)
    write_config(tmp_path, recipe.config, recipe.data)
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG, FILES}
