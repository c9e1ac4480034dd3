"""What a run's program is built from, and how the model, the data and the options meet."""

from pathlib import Path
from typing import Any

import pytest

from fxtransport.errors import UsageError
from fxtransport.origin import Origin
from fxtransport.runs.config import complete_config
from fxtransport.runs.recipe import Recipe, make_recipe

SMALL = {"data.train_samples": 40, "trainer.device": "cpu", "program.verify": False}


def recipe(name: str, **values: Any) -> Recipe:
    """A recipe for the digits; underscores stand for the dots of keys."""
    keys = {path.replace("__", "."): value for path, value in values.items()}
    return make_recipe(complete_config({"model.name": name, **SMALL, **keys}))


def test_the_model_and_the_data_meet_in_size_and_classes() -> None:
    found = recipe("timm:test_vit", model__input_size=32)
    assert found.origin == Origin("timm:test_vit", {"num_classes": 10, "img_size": 32})
    assert found.shape == found.data.input_size == (3, 32, 32)
    program = found.program()
    assert program.facts.origin == found.origin
    assert program.facts.example.inputs[0].shape[1:] == (3, 32, 32)


def test_the_channels_of_the_input() -> None:
    found = recipe("timm:test_resnet", model__input_size="1,32,32")
    assert found.origin.options == {"num_classes": 10, "in_chans": 1}
    assert found.data.input_size == (1, 32, 32)


def test_options_of_the_configuration_reach_the_program() -> None:
    found = recipe(
        "nets:resnet_m",
        model__input_size=8,
        objective__method="trgl",
        program__modules=3,
        program__balance="parameters",
        program__head_width=2,
        data__batch_size=16,
    )
    program = found.program()
    assert len(program.parts) == 3
    assert program.facts.partition.balance == "parameters"
    assert {head.width for head in program.facts.heads.heads[:-1]} <= {0, 2}


def test_as_many_parts_as_possible() -> None:
    found = recipe(
        "nets:resnet_m",
        model__input_size=8,
        model__options={"blocks": 5},
        objective__method="vangl",
        program__blockwise=True,
    )
    assert len(found.program().parts) == 5


def test_a_model_that_is_not_a_classifier_of_the_data(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\n"
        "def make():\n"
        "    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))\n"
        "    model.input_size = (1, 8, 8)\n"
        "    return model\n"
    )
    with pytest.raises(UsageError, match=r"returns \[\(7,\)\], and digits has 10 classes"):
        recipe(f"{file}:make").program()


def test_options_of_one_set_are_not_those_of_all() -> None:
    with pytest.raises(UsageError, match=r"seed is not an option of one set: data\.options"):
        recipe("nets:resnet_m", model__input_size=8, data__options={"seed": 1})
