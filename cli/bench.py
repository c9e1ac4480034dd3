"""``fxtransport bench``: a model, its program and its parts, timed side by side."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fxtransport.cli.common import compiling, debug_option, out_console, parse_size, trust_option

if TYPE_CHECKING:
    from fxtransport.input_size import InputSize


@click.command()
@click.argument("name", metavar="MODEL|RUN")
@click.option(
    "--batch-size",
    "-b",
    type=click.IntRange(2),
    default=32,
    show_default=True,
    metavar="B",
    help="Samples in a batch.",
)
@click.option(
    "--modules",
    "-k",
    type=click.IntRange(1),
    metavar="K",
    help="Cut a model into K parts.  [default: 2; a run knows]",
)
@click.option(
    "--input-size",
    "--image-size",
    metavar="SIZE",
    callback=parse_size,
    help="The size of a model's input: N, HxW or C,H,W.",
)
@click.option("--device", default="cpu", show_default=True, metavar="TEXT", help="Where it runs.")
@click.option(
    "--compile",
    "backend",
    is_flag=False,
    flag_value="inductor",
    metavar="[BACKEND]",
    help="Measure all once more, compiled by torch.compile.  [inductor without a value]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    metavar="X",
    help="How long each kind is measured, about.",
)
@trust_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, on stdout.")
@debug_option
def bench(
    name: str,
    batch_size: int,
    modules: int | None,
    input_size: "InputSize | None",
    device: str,
    backend: str | None,
    seconds: float,
    trust_files: bool,
    as_json: bool,
) -> None:
    """Time a model, its program, and its parts with their heads, which run in turns.

    Latency is the median time of a forward of one sample, samples/s that of whole batches, both
    in eval mode. A step trains on a batch by SGD with momentum. Memory is the most that a step
    holds: on a CPU all tensors, weights and the optimizer's among them.

    For example: fxtransport bench resnet18 --image-size 64 --modules 4 --compile
    """
    from fxtransport.bench_subjects import open_bench
    from fxtransport.benching import bench as measure
    from fxtransport.report.bench_table import show_bench

    with compiling(name):
        subject = open_bench(name, modules=modules, input_size=input_size, trust_files=trust_files)
    if backend is not None:
        click.echo(f"compiling, by {backend}, which may take minutes", err=True)
    found = measure(
        subject, batch_size=batch_size, device=device, compiled=backend, seconds=seconds
    )
    if not as_json:
        show_bench(out_console(), found, batch_size)
        return
    summary = {
        "name": name,
        "parts": len(subject.program.parts),
        "input_size": subject.shape,
        "batch_size": batch_size,
        "device": device,
        "figures": [asdict(each) for each in found],
    }
    click.echo(json.dumps(summary))
