"""``fxtransport export``: the weights of a run, for the plain model."""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxtransport.cli.common import debug_option, trust_option
from fxtransport.errors import UsageError
from fxtransport.report.words import plural

if TYPE_CHECKING:
    import torch

    from fxtransport.runs.load import Run


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
@trust_option
@debug_option
def export(
    run: Path, output: Path, best: bool, average: bool | None, force: bool, trust_files: bool
) -> None:
    """Write the weights of a RUN of fxtransport train under the plain model's own names.

    The file holds the whole model's state, without auxiliary heads, and loads without this
    library: timm.create_model(…).load_state_dict(safetensors.torch.load_file(FILE)).

    Its metadata hold the model's name and options, and how the weights were trained.

    For example: fxtransport export run -o weights.safetensors
    """
    if os.path.lexists(output) and not force:
        raise UsageError(f"{output} already exists: give another -o, or --force")

    from fxtransport.runs.load import load_run
    from fxtransport.weights import model_state

    found = load_run(run, last=not best, average=average, trust_files=trust_files)
    _write(output, model_state(found.program), metadata(found))
    click.echo(_headline(found, output), err=True)


def metadata(found: "Run") -> dict[str, str]:
    """What the file says of its weights; values that are not texts are JSON."""
    best = found.best
    described = {
        "format": "pt",
        "model": found.origin.model,
        "options": json.dumps(found.origin.options),
        "input_size": json.dumps(found.input_size),
        "class_names": json.dumps(found.inputs.class_names),
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
    """Write the file under another name, and rename it."""
    from safetensors.torch import save_file

    from fxtransport.files import path_beside, put
    from fxtransport.training.tensor_files import write_errors

    with write_errors(output.parent), path_beside(output) as beside:
        save_file(state, beside, metadata=described)
        put(beside, output)


def _headline(found: "Run", output: Path) -> str:
    last = len(found.program.parts) - 1
    averaged = ", averaged" if found.averaged else ""
    line = f"{output}: {found.origin.model} after {plural(found.epochs, 'epoch')}{averaged}"
    if found.best is not None and found.best.exit.part != last:
        return (
            f"{line}\nthe best exit is part {found.best.exit.part} with its auxiliary head; "
            f"the plain model's own head is that of part {last}"
        )
    return line
