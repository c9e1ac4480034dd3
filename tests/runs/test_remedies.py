"""What to do is said by name, and works: the argument is one that the model has."""

from pathlib import Path

import pytest
import torch

from fxtransport.runs.config import complete_config
from fxtransport.runs.recipe import Recipe, make_recipe
from fxtransport.runs.remedies import way_out, zero_norms


def recipe_of(model: str, method: str, **options: object) -> Recipe:
    values = {
        "model.name": model,
        "model.input_size": "32",
        "model.options": options,
        "objective.method": method,
        "program.verify": False,
        "trainer.device": "cpu",
    }
    return make_recipe(complete_config(values))


@pytest.mark.parametrize(
    ("method", "words"),
    [("lap", "a smaller objective.lambda0"), ("fixed", "a larger objective.lambda0")],
)
def test_norms_of_timm_that_begin_with_zero_have_an_argument(method: str, words: str) -> None:
    recipe = recipe_of("timm:test_resnet", method)
    program = recipe.program()
    norms = zero_norms(program)
    assert way_out(recipe, program) == (
        f"the last norms of its blocks begin with zero ({norms[0]}); set zero_init_last=False in "
        f"model.options, or give {words}"
    )
    other = recipe_of("timm:test_resnet", method, zero_init_last=False)
    assert way_out(other, other.program()) == f"give {words}"


def test_a_model_without_the_argument_is_told_what_there_is(nets: Path) -> None:
    recipe = recipe_of(f"{nets}:DigitsNet", "fixed")
    program = recipe.program()
    assert way_out(recipe, program) == "give a larger objective.lambda0"
    with torch.no_grad():
        program.get_parameter("blocks.1.norm.weight").zero_()
    assert way_out(recipe, program) == (
        "the last norms of its blocks begin with zero (blocks.1.norm.weight); initialize them "
        "with one, or give a larger objective.lambda0"
    )
