"""``fxtransport export``: what a run has learned, in files that other programs load."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxtransport.cli.common import debug_option, trust_option
from fxtransport.cli.run_exits import best_option, exit_option, number_of
from fxtransport.errors import UsageError
from fxtransport.report.words import count, plural

if TYPE_CHECKING:
    from fxtransport.runs.load import Run

FORMATS = ("safetensors", "timm", "torch", "onnx")
SUFFIXES = {".onnx": "onnx", ".pt2": "torch"}
"""The format that a name means; others mean safetensors."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file; with --format timm a folder.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="safetensors: the plain model's weights. timm: the folder of a model of timm's hub. "
    "torch: a program of torch.export. onnx: checked by onnxruntime.  "
    "[default: torch for .pt2, onnx for .onnx, else safetensors]",
)
@exit_option("best", help="Which exit.  [default: the last, with the plain model's own head]")
@best_option
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
    run: Path,
    output: Path,
    form: str | None,
    which: str | None,
    best: bool,
    average: bool | None,
    force: bool,
    trust_files: bool,
) -> None:
    """Write what a RUN of fxtransport train has learned, with the weights of its best exit.

    \b
    safetensors  timm.create_model(…).load_state_dict(safetensors.torch.load_file(FILE))
    timm         timm.create_model("local-dir:FOLDER", pretrained=True)
    torch        torch.export.load(FILE).module()
    onnx         onnxruntime.InferenceSession(FILE)

    By default it is the plain model, with the weights with which its own head was best. --exit 0
    is the model that ends at part 0, with its head: torch and onnx hold it.

    All formats say the model's name and options, the classes, how images are prepared, and what
    was measured. Inputs are prepared images, normalized too.

    For example: fxtransport export run -o weights.safetensors
    """  # noqa: D301
    if os.path.lexists(output) and not force:
        raise UsageError(f"{output} already exists: give another -o, or --force")

    from fxtransport.runs.exporting import export_run
    from fxtransport.runs.load import load_run

    found = load_run(
        run,
        last=not best,
        average=average,
        exit=-1 if which is None else number_of(which),
        trust_files=trust_files,
    )
    exit = _exit(found, which)
    export_run(found, output, form or SUFFIXES.get(output.suffix.lower(), FORMATS[0]), exit)
    for line in _lines(found, output, exit):
        click.echo(line, err=True)


def _exit(found: "Run", which: str | None) -> int:
    """The part whose exit is meant."""
    last = len(found.program.parts) - 1
    if which == "best":
        return last if found.best is None else found.best.exit.part
    exit = last if which is None else int(which)
    if exit not in found.exits:
        raise UsageError(
            f"the plain model's own head, that of part {exit}, has not been trained yet; give "
            f"--exit {found.exits[-1]}, or train to the end"
        )
    return exit


def _lines(found: "Run", output: Path, exit: int) -> list[str]:
    """What was written, what was measured of it, and how it compares with other exits."""
    from fxtransport.runs.exporting import compare_sizes, measured_exit

    last, measured = len(found.program.parts) - 1, measured_exit(found, exit)
    averaged = ", averaged" if found.averaged else ""
    said = "not measured with these weights"
    if measured is not None:
        said = f"{measured.accuracy:.2%} of {measured.samples} validation samples"
    lines = [
        f"{output}: {found.origin.model} after {plural(found.epochs, 'epoch')}{averaged}, "
        f"exit {exit}: {said}"
    ]
    if exit != last:
        less = compare_sizes(found, exit)
        speed = f"{less.speedup:.1f} times as fast"
        if less.speedup < 1:
            speed = f"no faster, as the head takes longer than what it replaces ({speed})"
        lines.append(
            f"the parts up to {exit} with their head: {count(less.parameters)} of "
            f"{count(less.whole_parameters)} parameters, {speed}"
        )
    best = found.best
    if best is not None and best.exit.part != exit:
        accuracy = f"{best.exit.accuracy:.2%} after {plural(best.epoch, 'epoch')}"
        lines.append(f"the best exit is {best.exit.part}: {accuracy}; --exit best exports it")
    return lines
