"""``fxtransport export``: the weights that a run has found, for the plain model."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxtransport.cli.common import debug_option
from fxtransport.errors import UsageError
from fxtransport.report.words import plural
from fxtransport.runs.config import read_run

if TYPE_CHECKING:
    import torch

    from fxtransport.runs.load import TrainedRun


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The safetensors file.",
)
@click.option(
    "--best/--last",
    "best",
    default=True,
    help="The weights of the best exit, or those of the last checkpoint.  [default: best]",
)
@click.option(
    "--ema/--no-ema",
    "average",
    default=None,
    help="Their moving average, or not.  [default: the average, if the run keeps one]",
)
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@debug_option
def export(run: Path, output: Path, best: bool, average: bool | None, force: bool) -> None:
    """Write the weights of a RUN of fxtransport train under the plain model's own names.

    What is written is the whole model's state, without auxiliary heads. Its library alone loads
    it: timm.create_model(…).load_state_dict(safetensors.torch.load_file(FILE)).

    The name, the options and how the weights came about are in the file's metadata.

    For example: fxtransport export run -o weights.safetensors
    """
    if output.exists() and not force:
        raise UsageError(f"{output} is there already: give another -o, or --force")
    config = read_run(run)

    from fxtransport.runs.load import load_run
    from fxtransport.weights import model_state

    found = load_run(run, config, last=not best, average=average)
    _write(output, model_state(found.program), metadata(found))
    click.echo(_headline(found, output), err=True)


def metadata(found: "TrainedRun") -> dict[str, str]:
    """What the file says of its weights; values that are no texts are JSON."""
    recipe, best = found.recipe, found.best
    described = {
        "format": "pt",
        "model": recipe.spec.canonical,
        "options": json.dumps(recipe.options),
        "input_size": json.dumps(recipe.shape),
        "class_names": json.dumps(recipe.splits.class_names),
        "data": found.config["data.name"],
        "method": found.config["objective.method"],
        "schedule": found.config["schedule.name"],
        "epochs": str(found.epochs),
        "averaged": json.dumps(found.averaged),
        "fxtransport": version("fxtransport"),
    }
    if best is not None:
        described["best_exit"] = str(best.exit.part)
        described["best_validation_accuracy"] = str(best.exit.accuracy)
    return described


def _write(output: Path, state: "dict[str, torch.Tensor]", described: dict[str, str]) -> None:
    """Write the file beside its place, and move it there."""
    from safetensors.torch import save_file

    from fxtransport.training.checkpoint import RunFolder

    folder = RunFolder(output.parent)
    with folder.new_file(output.name) as beside:
        save_file(state, beside, metadata=described)
        folder.put(beside, output.name)


def _headline(found: "TrainedRun", output: Path) -> str:
    spec, last = found.recipe.spec, len(found.program.parts) - 1
    averaged = ", averaged" if found.averaged else ""
    line = f"{output}: {spec.canonical} after {plural(found.epochs, 'epoch')}{averaged}"
    if found.best is not None and found.best.exit.part != last:
        return (
            f"{line}\nthe best exit is module {found.best.exit.part} with its auxiliary head; "
            f"the plain model's own head is that of module {last}"
        )
    return line
