"""``fxtransport transfer``: train a model near to a teacher."""

from typing import Any

import click

from fxtransport.cli.options import GroupedCommand
from fxtransport.cli.run_options import run_options, start_run
from fxtransport.runs.keys import all_keys


@click.command(cls=GroupedCommand)
@click.argument("name", metavar="[STUDENT]", required=False)
@run_options(*all_keys().values())
def transfer(context: click.Context, /, name: str | None, **options: Any) -> None:
    """Train a model near to a teacher, by optimal transport between their neurons.

    STUDENT is a model as train takes it, and everything else is as for train. TEACHER is a run,
    a saved program, a file of weights, or the name of a model. For fine-tuning, the teacher is
    where the student starts: --start-from-teacher.

    For example: fxtransport transfer nets:resnet_m --teacher run --regularizer ot:0.1 -o small
    """
    start_run(context, name, required=("transfer.teacher", "transfer.regularizer"), **options)
