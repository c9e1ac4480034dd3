"""What the commands share: their options, how they compile models, and how errors are shown."""

import gc
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fxtransport.errors import FxTransportError

if TYPE_CHECKING:
    from rich.console import Console

    from fxtransport.input_size import InputSize
    from fxtransport.models import ModelSpec
    from fxtransport.submodule import Target

Result = TypeVar("Result")
Command = TypeVar("Command", bound=Callable[..., Any])

COMPILER_FAILED = 3
"""The exit code where the compiler itself fails on a model."""
PLAIN_WIDTH = 160
"""The number of columns where the output is not a terminal."""

ARGUMENTS = {
    "allow_duplicates=True": "--allow-duplicates",
    "a larger objective.lambda0": "a larger --lambda0",
    "a smaller objective.lambda0": "a smaller --lambda0",
    "a smaller objective.tau": "a smaller --tau",
    "average=False": "--no-ema",
    "checkpoint_blocks is": "--checkpoint-blocks is",
    "choose an even batch_size, and drop_last": "choose an even --batch-size, and --drop-last",
    "(root is the folder": "(--data-dir is the folder",
    "download=True": "--download",
    "drop_last=True": "--drop-last",
    "format='torch' and format='onnx' hold": "--format torch and --format onnx hold",
    "format='safetensors', 'torch' or 'onnx'": "--format safetensors, torch or onnx",
    "give another encoder or input_size": "give another --encoder or --input-size",
    "give input_size": "give --input-size",
    "give source": "give --data",
    "give root, the folder": "give --data-dir, the folder",
    "set zero_init_last=False in model.options": "give --model-arg zero_init_last=False",
    "set zero_init_residual=False in model.options": "give --model-arg zero_init_residual=False",
    "set their number in model.options": "set their number with --model-arg",
    "set num_classes, which": "give --data-arg num_classes=N, which",
    "give num_classes": "give --num-classes",
    "set transfer.teacher": "give --teacher",
    "head='none'": "--head none",
    'head="none"': "--head none",
    "give data": "give --data",
    "keep_checkpoints=1": "--keep-checkpoints 1",
    "last=True": "--last",
    "(model.initial_checkpoint=": "(--initial-checkpoint ",
    "(trainer.freeze=": "(--freeze ",
    "a smaller lr": "a smaller --lr",
    "on_bad_image='skip'": "--on-bad-image skip",
    "pretrained=True": "--pretrained",
    "root=FOLDER": "--data-dir FOLDER",
    "with model.initial_checkpoint from": "with --initial-checkpoint from",
    "with train_split, validation_split and test_split": "with --data-arg validation_split=NAME, "
    "or of train_split and test_split",
    "with validation_split and test_split": "with --data-arg validation_split=NAME and --data-arg "
    "test_split=NAME",
    "with test_split": "with --data-arg test_split=NAME",
    "test_split names one": "--data-arg test_split=NAME names one",
    "trust_files=True": "--trust-files",
    "validation=0.1": "--validation 0.1",
}
"""How library errors name arguments of Python, and the options of the same meaning."""


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
            "--image-size",
            metavar="SIZE",
            callback=parse_size,
            help="The size of the input: N, HxW or C,H,W; the model's own by default.",
        ),
        click.option(
            "--submodule",
            metavar="PATH",
            help="Compile this submodule, as MODEL#PATH does.  "
            "[default: the whole, or its backbone where the whole cannot be one graph]",
        ),
        click.argument("names", metavar="MODEL...", nargs=-1, required=True),
    ):
        command = option(command)
    return command


def _remember_debug(context: click.Context, _: click.Parameter, debug: bool) -> None:
    context.meta[__name__] = debug


def parse_size(
    _: click.Context, parameter: click.Parameter, text: str | None
) -> "InputSize | None":
    """The value of ``--input-size``, as the callback of an option."""
    from fxtransport.errors import UsageError
    from fxtransport.input_size import InputSize

    try:
        return None if text is None else InputSize.parse(text)
    except UsageError as error:
        raise click.BadParameter(str(error), param=parameter) from error


trust_option = click.option(
    "--trust-files",
    is_flag=True,
    help="Run the Python file that the configuration names as the model's.",
)


def each_model(names: tuple[str, ...], as_json: bool, work: Callable[["ModelSpec"], None]) -> None:
    """Do something with each model. If one fails, that is reported, and the others follow.

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
        spec = _resolve(name)
        if not gc.get_freeze_count():
            # what is imported by now stays; collecting garbage in it again and again would take
            # as long as compiling
            gc.freeze()
        work(spec)
    except (FxTransportError, *MODEL_ERRORS) as error:
        # even if the compiler itself fails on one model, the others follow
        known = isinstance(error, FxTransportError)
        reason = name_options(str(error)) if known else f"the compiler failed: {_one_line(error)}"
        if as_json:
            entry = {"model": _canonical(name), "error": type(error).__name__, "reason": reason}
            click.echo(json.dumps(entry))
        report(error, f"{_canonical(name)}: {reason}" if is_one_of_many else reason)
        return exit_code(error)
    return 0


def _resolve(name: str) -> "ModelSpec":
    from fxtransport.models import resolve

    spec = resolve(name)
    if spec.note:
        click.echo(spec.note, err=True)
    return spec


def _canonical(name: str) -> str:
    """The canonical name of a model; the name itself where there is no such model."""
    from fxtransport.models import resolve

    try:
        return resolve(name).canonical
    except FxTransportError:
        return name


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def compile_model(
    spec: "ModelSpec",
    work: "Callable[[Target], Result]",
    *,
    pretrained: bool,
    input_size: "InputSize | None",
    submodule: str | None,
    numbers: bool,
) -> Result:
    """Build a model, and do something with it, or with its backbone; stderr says which.

    Args:
        spec: The model.
        work: Is called with what is compiled.
        pretrained: Fetch weights.
        input_size: The size of the input; the model's own if None.
        submodule: The path of a submodule to compile.
        numbers: Whether the weights matter. If not, no memory is allocated for them.
    """
    from fxtransport.submodule import whole_or_backbone
    from fxtransport.targets import open_target

    # a factory in a file may need real tensors
    on_meta = not (numbers or pretrained or spec.library == "file")
    target = open_target(
        spec,
        pretrained=pretrained,
        input_size=input_size,
        submodule=submodule,
        device="meta" if on_meta else None,
    )

    def attempt(found: "Target") -> Result:
        done = work(found)
        if found.refusal is not None:
            why = str(found.refusal).partition(". ")[0]
            message = f"compiled {found.path}; the whole cannot be one graph because {why}"
            click.echo(message, err=True)
        return done

    return whole_or_backbone(target, attempt)


def name_options(message: str) -> str:
    """An error of the library with the command line's options where it names arguments.

    >>> name_options("the best weights are an average: give last=True average=False")
    'the best weights are an average: give --last --no-ema'
    """
    for argument, option in ARGUMENTS.items():
        message = message.replace(argument, option)
    return message


def exit_code(error: Exception) -> int:
    """The exit code of a command that ends with an error."""
    return error.exit_code if isinstance(error, FxTransportError) else COMPILER_FAILED


def report(error: Exception, message: str) -> None:
    """Put an error on stderr: a line, and with ``--debug`` the traceback before it."""
    if click.get_current_context().meta.get(__name__):
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(name_options(message), err=True)


@contextmanager
def compiling(canonical: str) -> Iterator[None]:
    """Show a spinner on a terminal. What a model prints goes to stderr; stdout is for results."""
    from rich.console import Console

    console = Console(stderr=True)
    with redirect_stdout(sys.stderr):
        if not console.is_terminal:
            yield
            return
        with console.status(f"Compiling {canonical} …"):
            yield


def out_console() -> "Console":
    """The console for results; wide where the output is not a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)
