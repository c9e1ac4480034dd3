"""What the commands share: their options, and how a list of models is worked through."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fxtransport.errors import FxTransportError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from fxtransport.models import ModelSpec
    from fxtransport.passes.base import Example

Command = TypeVar("Command", bound=Callable[..., Any])


def model_options(command: Command) -> Command:
    """The options of all commands that take models."""
    for option in (
        click.option("--debug", is_flag=True, help="Show tracebacks."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object a line, on stdout."),
        click.option("--pretrained", is_flag=True, help="Fetch pretrained weights."),
        click.option(
            "--input-size",
            metavar="C,H,W",
            callback=_parse_size,
            help="The input's shape without the batch; the model's own by default.",
        ),
        click.argument("names", metavar="MODEL...", nargs=-1, required=True),
    ):
        command = option(command)
    return command


def _parse_size(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        size = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        size = ()
    if not size or min(size) < 1:
        raise click.BadParameter(f"write it as 3,224,224, not {text!r}", param=parameter)
    return size


def each_model(
    names: tuple[str, ...], as_json: bool, debug: bool, work: Callable[["ModelSpec"], None]
) -> None:
    """Do something with each model. One that fails is reported, and the rest go on.

    Ends with the exit code of the last failure.
    """
    from fxtransport.models import resolve

    code = 0
    for name in names:
        canonical = name
        try:
            spec = resolve(name)
            canonical = spec.canonical
            if spec.note:
                click.echo(spec.note, err=True)
            work(spec)
        except FxTransportError as error:
            if debug:
                raise
            code = error.exit_code
            if as_json:
                entry = {
                    "model": canonical,
                    "error": type(error).__name__,
                    "reason": str(error),
                }
                click.echo(json.dumps(entry))
            if not as_json or len(names) == 1:
                report(f"{canonical}: {error}" if len(names) > 1 else str(error))
    if code:
        raise click.exceptions.Exit(code)


def build_model(
    spec: "ModelSpec", *, pretrained: bool, input_size: tuple[int, ...] | None, numbers: bool
) -> "tuple[nn.Module, Example]":
    """A model and the example that it is compiled for.

    Args:
        spec: Which model.
        pretrained: Fetch weights.
        input_size: The input's shape without the batch; the model's own if None.
        numbers: Whether the parameters' values matter. If not, none are allocated.
    """
    import torch

    from fxtransport.models import build, input_spec
    from fxtransport.compiler import example_of

    # a user's own factory may need real tensors
    needless = not (numbers or pretrained or spec.library == "file")
    model = build(spec, pretrained=pretrained, device="meta" if needless else None)

    shape = input_size or input_spec(model, spec).shape
    return model, example_of(model, torch.empty(2, *shape, device="meta"))


def report(message: str) -> None:
    """An error, on stderr."""
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(message, err=True)


@contextmanager
def status(message: str) -> Iterator[None]:
    """A spinner on a terminal, nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(message):
        yield


def out_console() -> "Console":
    """The console for results; as wide as it needs when it is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def check_weight(weight: str | None, equal_weight: bool) -> None:
    """``--weight`` says what is equal, so it needs ``--equal-weight``."""
    if weight is not None and not equal_weight:
        raise UsageError("--weight says what --equal-weight balances; give --equal-weight too")
