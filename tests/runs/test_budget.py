"""What a run with a teacher is given so that it fits into a budget, and what is said if nothing is.

The teacher is held and asked in the same process, so that it counts.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from fxtransport.byte_sizes import parse_bytes
from fxtransport.errors import MemoryBudgetError
from fxtransport.fitting import reserve_of
from fxtransport.objectives import plain, trgl
from fxtransport.runs.budget import fit_recipe
from fxtransport.runs.config import complete_config
from fxtransport.runs.fit import fit_run
from fxtransport.runs.recipe import Recipe, make_recipe
from fxtransport.runs.transfer import prepare_transfer
from fxtransport.training import EndToEnd, Parallel, TrainerSettings
from fxtransport.training.memory import step_memory


def recipe_of(blocks: int = 3, **changes: Any) -> Recipe:
    values = {
        "model.name": "nets:resnet_m",
        "model.input_size": 8,
        "model.options": {"blocks": blocks, "channels": 16},
        "data.train_samples": 256,
        "data.batch_size": 128,
        "schedule.epochs": 1,
        "program.verify": False,
        "trainer.device": "cpu",
    }
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    return make_recipe(complete_config({k: v for k, v in values.items() if v is not None}))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of a deeper network."""
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    recipe = recipe_of(blocks=4, objective__method="e2e", data__train_samples=128)
    fit_run(folder, recipe, recipe.program(), resume=False)
    return str(folder)


def student_of(teacher: str, **changes: Any) -> Recipe:
    terms = {"transfer__teacher": teacher, "transfer__regularizer": "ot:0.1,kd:0.5"}
    given: dict[str, Any] = {"objective__method": "trgl", **terms, **changes}
    return recipe_of(**given)


def test_a_run_with_a_teacher_is_cut_so_that_both_fit(teacher: str, tmp_path: Path) -> None:
    whole = student_of(teacher, program__modules=1)
    program = whole.program()
    transfer, _ = prepare_transfer(whole, program, new=True)
    assert transfer is not None
    held = step_memory(program, plain(), EndToEnd(1), batch_size=128, transfer=transfer).peak_bytes
    alone = step_memory(program, plain(), EndToEnd(1), batch_size=128).peak_bytes
    # without the teacher it would fit as it is
    budget = int(0.99 * held)
    assert alone < budget - reserve_of(budget, "cpu")
    fitted, note = fit_recipe(student_of(teacher, program__fit=str(budget)))
    assert "batches of 128 in 2 parts, peak " in note
    assert fitted.config["data.batch_size"] == 128
    cut = fitted.program()
    assert len(cut.parts) == 2
    kept, _ = prepare_transfer(fitted, cut, new=True)
    assert kept is not None and kept.teacher is not None
    found = step_memory(cut, plain(), Parallel(1), batch_size=128, transfer=kept)
    assert found.peak_bytes <= budget - reserve_of(budget, "cpu")
    report = fit_run(tmp_path / "run", fitted, cut, resume=False, transfer=kept)
    assert report.position.epochs == 1


def test_few_blocks_are_computed_again_beside_a_teacher(teacher: str) -> None:
    whole = student_of(teacher, program__modules=1)
    program = whole.program()
    transfer, _ = prepare_transfer(whole, program, new=True)
    options: dict[str, Any] = {"batch_size": 128, "transfer": transfer}
    norms = TrainerSettings(recompute_norms=True)
    held = step_memory(program, trgl(0.5), Parallel(1), settings=norms, **options).peak_bytes
    budget = int(0.98 * held)
    limit = budget - reserve_of(budget, "cpu")
    fitted, note = fit_recipe(student_of(teacher, program__modules=1, program__fit=str(budget)))
    [count] = fitted.config["trainer.checkpoint_blocks"]
    assert fitted.config["trainer.recompute_norms"] and 0 < count < 3
    assert f"in 1 part, computing norms and {count} of 3 blocks again, peak " in note
    fits = []
    for blocks in (count - 1, count):
        settings = TrainerSettings(recompute_norms=True, checkpoint_blocks=(blocks,))
        found = step_memory(program, trgl(0.5), Parallel(1), settings=settings, **options)
        fits.append(found.peak_bytes <= limit)
    assert fits == [False, True]


def test_a_budget_below_that_of_the_teacher_says_what_would_fit(teacher: str) -> None:
    with pytest.raises(MemoryBudgetError, match="does not fit into 100 KiB: the least is") as info:
        fit_recipe(student_of(teacher, program__fit="100KiB"))
    found = re.search(r"a budget of ([\d.]+) (\wiB) is enough", str(info.value))
    assert found is not None
    enough = "".join(found.groups())
    fitted, _ = fit_recipe(student_of(teacher, program__fit=enough))
    assert fitted.config["program.cuts"]
    # nothing but the budget's last per cent is given away
    less = str(int(0.95 * parse_bytes(enough)))
    with pytest.raises(MemoryBudgetError):
        fit_recipe(student_of(teacher, program__fit=less))


def test_the_largest_batch_beside_a_teacher(teacher: str) -> None:
    sizes = []
    for terms in ("none", "ot:0.1,kd:0.5"):
        changes = {"transfer__regularizer": terms, "data__batch_size": None}
        fitted, _ = fit_recipe(student_of(teacher, program__fit="4MiB", **changes))
        sizes.append(fitted.config["data.batch_size"])
    assert 32 < sizes[1] < sizes[0]
