"""What the commands share: their options, and how a list of models is worked through."""

import gc
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fxtransport.errors import FxTransportError

if TYPE_CHECKING:
    from rich.console import Console

    from fxtransport.models import ModelSpec
    from fxtransport.submodule import Target

Result = TypeVar("Result")
Command = TypeVar("Command", bound=Callable[..., Any])

COMPILER_FAILED = 3
"""The exit code where the compiler itself fails on a model."""
PLAIN_WIDTH = 160
"""Columns where there is no terminal to ask."""


def debug_option(command: Command) -> Command:
    """``--debug``, which :func:`report` asks for."""
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_remember_debug,
        help="Show tracebacks.",
    )(command)


def model_options(command: Command) -> Command:
    """The options of all commands that take models."""
    for option in (
        debug_option,
        click.option("--json", "as_json", is_flag=True, help="One JSON object a line, on stdout."),
        click.option("--pretrained", is_flag=True, help="Fetch pretrained weights."),
        click.option(
            "--input-size",
            metavar="C,H,W",
            callback=_parse_size,
            help="The input's shape without the batch; what the model takes by default.",
        ),
        click.option(
            "--submodule",
            metavar="PATH",
            help="Compile this submodule, as MODEL#PATH does.  "
            "[default: the whole; its backbone where that cannot be one graph]",
        ),
        click.argument("names", metavar="MODEL...", nargs=-1, required=True),
    ):
        command = option(command)
    return command


def _remember_debug(context: click.Context, _: click.Parameter, debug: bool) -> None:
    context.meta[__name__] = debug


def _parse_size(
    _: click.Context, parameter: click.Parameter, text: str | None
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


def each_model(names: tuple[str, ...], as_json: bool, work: Callable[["ModelSpec"], None]) -> None:
    """Do something with each model. One that fails is reported, and the rest go on.

    Ends with the highest exit code of those that failed.
    """
    try:
        code = max(_attempt(name, as_json, len(names) > 1, work) for name in names)
    finally:
        # libraries that are written in C++ look for leaks when the process ends
        gc.unfreeze()
    if code:
        raise click.exceptions.Exit(code)


def _attempt(
    name: str, as_json: bool, is_one_of_many: bool, work: Callable[["ModelSpec"], None]
) -> int:
    """Do something with one model. Returns the exit code that it alone would give."""
    from fxtransport.errors import MODEL_ERRORS

    try:
        spec = _resolved(name)
        if not gc.get_freeze_count():
            # what is imported by now stays; to look through it for garbage again and again
            # would take as long as compiling
            gc.freeze()
        work(spec)
    except (FxTransportError, *MODEL_ERRORS) as error:
        # also where the compiler itself fails on one model, the others have their turn
        known = isinstance(error, FxTransportError)
        reason = str(error) if known else f"the compiler failed: {_in_a_line(error)}"
        if as_json:
            entry = {"model": _canonical(name), "error": type(error).__name__, "reason": reason}
            click.echo(json.dumps(entry))
        report(error, f"{_canonical(name)}: {reason}" if is_one_of_many else reason)
        return exit_code(error)
    return 0


def _resolved(name: str) -> "ModelSpec":
    from fxtransport.models import resolve

    spec = resolve(name)
    if spec.note:
        click.echo(spec.note, err=True)
    return spec


def _canonical(name: str) -> str:
    """The name that always means a model; the name itself where it means none."""
    from fxtransport.models import resolve

    try:
        return resolve(name).canonical
    except FxTransportError:
        return name


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


@dataclass(frozen=True)
class Chosen:
    """How a model is built, and what of it is compiled."""

    pretrained: bool
    """Fetch weights."""
    input_size: tuple[int, ...] | None
    """The input's shape without the batch; the model's own if None."""
    submodule: str | None
    """The path of a submodule to compile."""

    def compile(
        self,
        spec: "ModelSpec",
        work: "Callable[[ModelSpec, Target], Result]",
        *,
        numbers: bool,
    ) -> Result:
        """Build a model and compile it, or its submodule.

        Args:
            spec: Which model.
            work: Is given what is compiled, and its name.
            numbers: Whether the parameters' values matter. If not, none are allocated.
        """
        from fxtransport.compiler import example_of
        from fxtransport.models import build, input_spec
        from fxtransport.submodule import Target, part_of, whole_or_backbone

        path = self.submodule or spec.submodule
        whole = replace(spec, submodule="")
        # a user's own factory may need real tensors
        needless = not (numbers or self.pretrained or spec.library == "file")
        model = build(whole, pretrained=self.pretrained, device="meta" if needless else None)
        if path and self.input_size:
            return work(replace(whole, submodule=path), part_of(model, (), path, self.input_size))

        example = example_of(model, input_spec(model, whole, self.input_size).example())
        if path:
            return work(replace(whole, submodule=path), part_of(model, example.inputs, path))

        def attempt(part: Target) -> Result:
            done = work(replace(whole, submodule=part.path), part)
            if part.refusal is not None:
                why = str(part.refusal).partition(". ")[0]
                message = f"compiled {part.path}; the whole cannot be one graph because {why}"
                click.echo(message, err=True)
            return done

        return whole_or_backbone(Target(model, example), attempt)


def exit_code(error: Exception) -> int:
    """With which code the command ends that meets an error."""
    return error.exit_code if isinstance(error, FxTransportError) else COMPILER_FAILED


def report(error: Exception, message: str) -> None:
    """Put an error on stderr: a line, and with ``--debug`` the traceback before it."""
    if click.get_current_context().meta.get(__name__):
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(message, err=True)


@contextmanager
def compiling(canonical: str) -> Iterator[None]:
    """A spinner on a terminal. What a model prints goes to stderr, stdout is for results."""
    from rich.console import Console

    console = Console(stderr=True)
    with redirect_stdout(sys.stderr):
        if not console.is_terminal:
            yield
            return
        with console.status(f"Compiling {canonical} …"):
            yield


def out_console() -> "Console":
    """The console for results; as wide as it needs when it is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)
