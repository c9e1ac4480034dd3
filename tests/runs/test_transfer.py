"""A run's teacher: what is opened and told, and what a configuration refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fxtransport
from fxtransport.errors import UsageError
from fxtransport.runs.config import Config, complete_config
from fxtransport.runs.fit import fit_run
from fxtransport.runs.recipe import make_recipe
from fxtransport.runs.transfer import prepare_transfer

STUDENT = {
    "model.name": "nets:resnet_m",
    "model.input_size": 8,
    "model.options": {"blocks": 2, "channels": 4},
    "data.train_samples": 100,
    "schedule.epochs": 1,
    "program.verify": False,
    "trainer.device": "cpu",
}


def config_of(**changes: Any) -> Config:
    return complete_config({**STUDENT, **{k.replace("__", "."): v for k, v in changes.items()}})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of a wider network."""
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    wide = {"blocks": 3, "channels": 6}
    recipe = make_recipe(config_of(model__options=wide, objective__method="e2e"))
    fit_run(folder, recipe, recipe.program(), resume=False)
    return str(folder)


def test_parts_are_paired_and_told(teacher: str) -> None:
    config = config_of(
        transfer__teacher=teacher,
        transfer__regularizer="ot:0.1,kd:1",
        objective__method="trgl",
        program__modules=2,
    )
    recipe = make_recipe(config)
    program = recipe.program()
    transfer, notes = prepare_transfer(recipe, program, new=True)
    assert transfer is not None
    assert transfer.regularizer.terms == {"ot": 0.1, "kd": 1.0}
    assert [pair.part for pair in transfer.regularizer.layers] == [0, 1]
    assert notes.splitlines() == [
        f"{teacher} teaches nets:resnet_m",
        "  part 0: blocks.0 4×4×4 with blocks.1 6×4×4",
        "  part 1: penultimate 100 with penultimate 100",
    ]


def test_nothing_is_opened_without_a_regularizer(teacher: str) -> None:
    config = config_of(transfer__teacher=teacher, transfer__regularizer="none")
    assert not config.section("transfer")
    recipe = make_recipe(config)
    assert prepare_transfer(recipe, recipe.program(), new=True) == (None, "")


def test_only_logits_need_no_layers(teacher: str) -> None:
    recipe = make_recipe(config_of(transfer__teacher=teacher, transfer__regularizer="kd:1"))
    transfer, notes = prepare_transfer(recipe, recipe.program(), new=True)
    assert transfer is not None
    assert transfer.regularizer.layers == ()
    assert notes == f"{teacher} teaches nets:resnet_m"


def test_a_new_run_begins_with_the_teacher_s_weights_and_a_resumed_one_does_not(
    teacher: str,
) -> None:
    config = config_of(
        transfer__teacher=teacher,
        transfer__regularizer="l2-sp:1",
        transfer__start=True,
        model__options={"blocks": 3, "channels": 6},
    )
    recipe = make_recipe(config)
    for new in (True, False):
        program = recipe.program()
        _, notes = prepare_transfer(recipe, program, new=new)
        loaded = fxtransport.load_run(teacher).program.model_state_dict()
        pairs = [torch.equal(v, loaded[k]) for k, v in program.model_state_dict().items()]
        assert all(pairs) == new
        assert ("begins with the weights" in notes) == new


def test_weights_alone_may_come_from_a_teacher(teacher: str) -> None:
    config = config_of(transfer__teacher=teacher, transfer__start=True)
    assert config.section("transfer") == {"teacher": teacher, "start": True}
    recipe = make_recipe(config)
    transfer, notes = prepare_transfer(recipe, recipe.program(), new=True)
    assert transfer is None
    assert notes.startswith(f"begins with the weights of {teacher}; ")


def test_a_penalty_on_weights_needs_no_teacher() -> None:
    recipe = make_recipe(config_of(transfer__regularizer="l2:0.1"))
    transfer, notes = prepare_transfer(recipe, recipe.program(), new=True)
    assert transfer is not None
    assert (transfer.teacher, notes) == (None, "")


def test_a_run_is_loaded_without_its_teacher(teacher: str, tmp_path: Path) -> None:
    recipe = make_recipe(
        config_of(transfer__teacher=teacher, transfer__regularizer={"ot": 0.1}, trainer__seed=3)
    )
    fit_run(tmp_path / "run", recipe, recipe.program(), resume=False)
    text = (tmp_path / "run" / "config.toml").read_text()
    (tmp_path / "run" / "config.toml").write_text(text.replace(teacher, "/nowhere"))
    loaded = fxtransport.load_run(tmp_path / "run")
    assert "penultimate" in loaded.program.facts.activations


def test_a_configuration_without_a_teacher_says_nothing_of_it() -> None:
    assert "transfer" not in config_of().to_toml()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"transfer__regularizer": "l2:1,ot:1"},
            "ot compares with a teacher: set transfer.teacher",
        ),
        ({"transfer__start": True}, "transfer.start begins with a teacher's weights"),
        ({"transfer__regularizer": 3}, "transfer.regularizer: a regularizer is written"),
        ({"transfer__p": 0.5}, "transfer.p is at least 1"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config_of(**changes)
