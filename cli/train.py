"""``fxtransport train``: train a model by the least action principle, or part by part."""

from typing import Any

import click

from fxtransport.cli.options import GroupedCommand
from fxtransport.cli.run_options import run_options, start_run
from fxtransport.runs.keys import all_keys


@click.command(cls=GroupedCommand)
@click.argument("name", metavar="[MODEL]", required=False)
@run_options(*(key for key in all_keys().values() if key.section != "transfer"))
def train(context: click.Context, /, name: str | None, **options: Any) -> None:
    """Train a model by the least action principle, or part by part.

    MODEL is a timm or torchvision name (timm:NAME, torchvision:NAME), one of the papers'
    networks (nets:NAME), or path/to/file.py:factory. Defaults are published settings: of LAP
    on CIFAR10, of TRGL on STL10.

    For example: fxtransport train resnet18 --method trgl --modules 4 --output run
    """
    start_run(context, name, **options)
