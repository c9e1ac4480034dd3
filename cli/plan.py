"""``fxtransport plan``: what training takes in memory, and what fits a budget."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from fxtransport.cli.common import compiling, debug_option, each_model, out_console, parse_size
from fxtransport.cli.options import KeyCommand, key_options, option_values
from fxtransport.runs.keys import METHODS, Key
from fxtransport.runs.keys.program import OF_HEADS, setting_keys

if TYPE_CHECKING:
    from fxtransport.input_size import InputSize
    from fxtransport.models import ModelSpec


def _keys() -> Iterable[Key]:
    found = setting_keys()
    return [found[name] for name in OF_HEADS]


@click.command(cls=KeyCommand)
@click.argument("names", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="Samples in a batch.  [default: 32; with --fit, the largest that fits]",
)
@click.option(
    "--method",
    type=click.Choice([*METHODS]),
    default="trgl",
    show_default=True,
    help="The objective of the parts, which train in parallel.",
)
@click.option(
    "--optimizer",
    "--opt",
    default="momentum",
    show_default=True,
    metavar="NAME",
    help="The optimizer, as timm.optim names it.",
)
@click.option("--amp", type=click.Choice(["bf16", "fp16"]), help="Mixed precision.")
@click.option(
    "--recompute-norms",
    is_flag=True,
    help="Compute what norms and activations return again in the backward pass.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where training is to run; there need not be one.",
)
@click.option(
    "--input-size",
    "--image-size",
    metavar="SIZE",
    callback=parse_size,
    help="The size of the input: N, HxW or C,H,W; the model's own by default.",
)
@click.option(
    "--fit",
    metavar="BYTES",
    help="Choose what fits into this much memory, such as 8GiB: the fewest parts; without "
    "--batch-size, the largest batch.",
)
@click.option(
    "--modules", "-k", type=click.IntRange(1), metavar="K", help="Consider this many parts only."
)
@click.option("--measure", is_flag=True, help="Time real steps.")
@key_options(_keys())
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, on stdout.")
@debug_option
@click.pass_context
def plan(
    context: click.Context,
    /,
    names: tuple[str, ...],
    batch_size: int | None,
    method: str,
    optimizer: str,
    amp: str | None,
    recompute_norms: bool,
    device: str,
    input_size: "InputSize | None",
    fit: str | None,
    modules: int | None,
    measure: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Predict the peak memory of training, end to end and in parts, and choose what fits.

    MODEL is a timm or torchvision name (timm:NAME, torchvision:NAME), one of the papers'
    networks (nets:NAME), or path/to/file.py:factory. No weights are allocated.

    For example: fxtransport plan resnet50 --batch-size 64 --fit 4GiB
    """
    values = option_values(context.command, options)
    settings = {path.removeprefix("program."): value for path, value in values.items()}
    from fxtransport.planning import plan as plan_memory
    from fxtransport.report.plan_table import show

    def work(spec: "ModelSpec") -> None:
        with compiling(spec.canonical):
            found = plan_memory(
                spec,
                batch_size=batch_size,
                method=method,
                optimizer=optimizer,
                amp=amp,
                recompute_norms=recompute_norms,
                device=device,
                input_size=input_size,
                modules=modules,
                fit=fit,
                measure=measure,
                **settings,
            )
        if as_json:
            click.echo(json.dumps(found.as_json()))
        else:
            show(out_console(), found)

    each_model(names, as_json, work)
