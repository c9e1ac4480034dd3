"""The ``fxtransport`` command: finds the subcommand, and turns errors into exit codes."""

import io
import multiprocessing
import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click

from fxtransport.cli.allocator import start_with_jemalloc
from fxtransport.cli.common import report
from fxtransport.errors import FxTransportError, RunInterruptedError

COMMANDS = {
    "autoencode": "Train a decoder with the encoder of a model, to look into its blocks.",
    "bench": "Time a model, its program and its parts, side by side.",
    "clouds": "Show how far each block of a trained model moves the points of its data.",
    "compare": "Compare two networks layer by layer, or a run with its beginning.",
    "curves": "Show how runs went, in one table and one picture.",
    "detect": "Detect attacked and out-of-distribution images.",
    "evaluate": "Measure the exits of a trained model.",
    "export": "Write the weights of a run for the plain model.",
    "inspect": "Show the rewritten graph of a model, with its residuals marked.",
    "models": "List the names of models.",
    "passes": "List the compiler's passes, with their options.",
    "plan": "Predict the memory of training, and choose what fits.",
    "predict": "Predict the classes of images by a run.",
    "split": "Cut a model into K parts, as even as possible.",
    "sweep": "Train one model in several ways, and compare them.",
    "train": "Train a model by the least action principle, or part by part.",
    "transfer": "Train a model near to a teacher, layer by layer.",
    "zoo": "Compile every model that the libraries list, and count the results.",
}
"""Each is imported when it is called, so that ``--help`` does not load torch."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, as in shells: 128 plus the signal's number."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = getattr(import_module(f"fxtransport.cli.{cmd_name}"), cmd_name)
        assert isinstance(found, click.Command)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; an error is one line, and a traceback with ``--debug``."""
        try:
            return super().invoke(ctx)
        except RunInterruptedError as error:
            # what was asked for is done, and all of it is saved
            click.echo(str(error), err=True)
            ctx.exit(error.exit_code)
        except FxTransportError as error:
            report(error, str(error))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version("fxtransport"), prog_name="fxtransport")
def cli() -> None:
    """Compile any timm or torchvision model into a program of parts that train by transport.

    Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 verification or
    training failed, 2 wrong usage, 3 the model cannot be traced; of several models that fail,
    the highest. After Ctrl-C the code is 130, after SIGTERM 143, and training is saved.
    """


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal that cannot show × or ⊕ shows a question mark
            stream.reconfigure(errors="replace")
    start_with_jemalloc(sys.argv)
    try:
        cli(prog_name="fxtransport")
    except SystemExit as done:
        leave(done.code)


def leave(code: str | int | None) -> None:
    """End the process at once, or as Python does where child processes depend on it.

    Python's own end takes half a second after torch and timm were imported, and frees nothing
    that the end of the process does not free.
    """
    if not isinstance(code, int | None) or multiprocessing.active_children():
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
