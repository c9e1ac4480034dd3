"""The cuts and the batch size of a run that is to fit into a budget of memory."""

from dataclasses import replace
from typing import Any

from fxtransport.byte_sizes import parse_bytes
from fxtransport.fitting import Fit, fit_batch, fit_modules
from fxtransport.pairing.teachers import OpenTeacher
from fxtransport.planner import Planner, Training
from fxtransport.program import Program
from fxtransport.report.words import plural, size
from fxtransport.runs.config import Config, complete_config
from fxtransport.runs.recipe import Recipe, make_recipe
from fxtransport.runs.settings import choose_device, make_settings
from fxtransport.runs.transfer import open_run_teacher, prepare_transfer
from fxtransport.training import Transfer


def fit_recipe(recipe: Recipe, *, trust_files: bool = False) -> tuple[Recipe, str]:
    """Choose what of a run is left open so that its training fits into its budget.

    Args:
        recipe: The run's. With ``program.fit``, its budget in bytes, it has no cuts yet.
        trust_files: Whether a Python file that a teacher's folder names may be run.

    Returns:
        The recipe with the cuts and the batch size in place of the budget, and what was chosen,
        in words.

    Raises:
        MemoryBudgetError: nothing fits; the error says what would.
    """
    config = recipe.config
    budget = parse_bytes(config["program.fit"])
    modules = config["program.modules"] if "program.modules" in config.given else None
    if config["schedule.name"] == "end-to-end":
        modules = 1
    planner = _planner(recipe, trust_files=trust_files)
    choose = fit_modules if "data.batch_size" in config.given else fit_batch
    found = choose(planner, budget, modules)
    changed = complete_config(_values(config, found))
    note = (
        f"fits into {size(budget)}: batches of {found.batch_size} in "
        f"{plural(found.modules, 'part')}{found.how}, peak {size(found.peak_bytes)}"
    )
    if found.batch_size != config["data.batch_size"]:
        return make_recipe(changed, checked=recipe.checked), note
    return replace(recipe, config=changed), note


def _values(config: Config, found: Fit) -> dict[str, Any]:
    """What is set for the run, with what was found in place of the budget."""
    left_out = ("program.fit", "program.modules", "program.cuts")
    values = {path: value for path, value in config.values.items() if path not in left_out}
    values["data.batch_size"] = found.batch_size
    if found.checkpoint_activations and not config["trainer.checkpoint_activations"]:
        values["trainer.checkpoint_blocks"] = list(found.checkpoint_blocks)
    if found.recompute_norms:
        values["trainer.recompute_norms"] = True
    if found.names:
        return {**values, "program.cuts": list(found.names)}
    return {**values, "program.modules": 1}


def _planner(recipe: Recipe, *, trust_files: bool) -> Planner:
    config = recipe.config
    target = recipe.target(with_data=False)
    settings = make_settings(config, 1)
    device = "cuda" if choose_device(config).startswith("cuda") else "cpu"

    opened: list[OpenTeacher] = []

    def teacher(program: Program) -> OpenTeacher:
        if not opened:
            opened.append(open_run_teacher(recipe, program, trust_files=trust_files))
        return opened[0]

    def transfer(program: Program) -> Transfer | None:
        return prepare_transfer(recipe, program, new=False, teacher=teacher)[0]

    training = Training(
        objective=lambda count: make_settings(config, count).objective,
        schedule=settings.schedule,
        optimizer=settings.optimizer,
        settings=settings.trainer,
        device=device,
        transfer=transfer,
    )
    return Planner(target, recipe.settings(target), training, config["data.batch_size"])
