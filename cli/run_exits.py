"""The options by which commands choose an exit of a run."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fxtransport.runs.load import Run


def exit_option(*words: str, help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--exit``: the number of a part, or one of some words.

    Args:
        words: What may stand for a number.
        help: The help of the option.
    """

    def parse(_: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
        if text is None or text in words or text.isdecimal():
            return text
        raise click.BadParameter(
            f"write {', '.join(words)} or the number of a part, not {text!r}", param=parameter
        )

    metavar = "|".join(("K", *words))
    return click.option("--exit", "which", metavar=metavar, callback=parse, help=help)


best_option = click.option(
    "--best/--last",
    "best",
    default=True,
    help="The weights of the best exit, or those of the last checkpoint.  [default: best]",
)


def number_of(which: str | None) -> int | None:
    """The exit whose weights are asked for; None: those of the best one."""
    return int(which) if which is not None and which.isdecimal() else None


def parts_of(found: "Run", which: str) -> tuple[int, ...]:
    """The parts whose exits are meant: ``best``, ``all`` or a number.

    Raises:
        UsageError: there is no such exit.
    """
    from fxtransport.errors import UsageError

    if which == "all":
        return found.exits
    if which == "best":
        return found.exits[-1:] if found.best is None else (found.best.exit.part,)
    if int(which) not in found.exits:
        trained = ", ".join(map(str, found.exits))
        raise UsageError(f"there is no trained exit {which}: there are {trained}")
    return (int(which),)
