"""``fxtransport split``: cut a model into K parts."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from fxtransport.cli.common import compile_model, compiling, each_model, model_options, out_console
from fxtransport.cli.options import KeyCommand, key_options, option_values
from fxtransport.runs.keys import Key
from fxtransport.runs.keys.program import setting_keys

if TYPE_CHECKING:
    from fxtransport.input_size import InputSize
    from fxtransport.models import ModelSpec
    from fxtransport.program import Program
    from fxtransport.submodule import Target

MODULES = 4
"""K where neither ``--modules`` nor ``--cut`` is given."""
OF_HEADS = ("head", "num_classes", "head_width", "head_budget")
FIRST = ("modules", "balance", "batch_size")
"""The options that come first in the help."""


def _keys() -> Iterable[Key]:
    """The options of programs, as this command has them."""
    found = setting_keys()
    found["modules"] = replace(found["modules"], default=MODULES)
    help = f"{found['head'].help} In a submodule there are none by default."
    found["head"] = replace(found["head"], help=help)
    return [found[name] for name in dict.fromkeys((*FIRST, *found))]


@click.command(cls=KeyCommand)
@key_options(_keys())
@click.option("--no-verify", is_flag=True, help="Do not compare numbers with the model's.")
@click.option("--output", type=click.Path(), metavar="DIR", help="Save the program here.")
@model_options
@click.pass_context
def split(
    context: click.Context,
    /,
    names: tuple[str, ...],
    no_verify: bool,
    output: str | None,
    pretrained: bool,
    input_size: "InputSize | None",
    submodule: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Cut models into K parts, as even as possible, and show them.

    MODEL is a timm or torchvision name (timm:NAME, torchvision:NAME), or
    path/to/file.py:factory.

    For example: fxtransport split swin_tiny --modules 4 --equal-weight
    """
    values = option_values(context.command, options)
    settings = {path.removeprefix("program."): value for path, value in values.items()}
    if "modules" not in settings and "cuts" not in settings:
        settings["modules"] = MODULES
    if output is not None:
        _check_output(output, names)
    from fxtransport.compiler import compile_passes
    from fxtransport.targets import compile_target

    # what is wrong with an option is said before anything is built
    compile_passes(**settings, verify=not no_verify)

    def compile_one(target: "Target") -> "tuple[Target, Program]":
        passes = compile_passes(**_suit(settings, target), verify=not no_verify)
        return target, compile_target(target, passes)

    def work(spec: "ModelSpec") -> None:
        from fxtransport.report.split_table import show
        from fxtransport.report.summary import summary

        with compiling(spec.canonical):
            target, program = compile_model(
                spec,
                compile_one,
                pretrained=pretrained,
                input_size=input_size,
                submodule=submodule,
                numbers=not no_verify or output is not None,
            )
        if output is not None:
            _save(program, output)
        batch_size = settings.get("batch_size", setting_keys()["batch_size"].default)
        found = summary(program, target.name, batch_size)
        found["whole_refused"] = None if target.refusal is None else str(target.refusal)
        if as_json:
            click.echo(json.dumps(found))
        else:
            show(out_console(), program, found)

    each_model(names, as_json, work)


def _suit(settings: dict[str, Any], target: "Target") -> dict[str, Any]:
    """The options for a target. A submodule returns no logits that heads could imitate."""
    if target.path and not any(name in settings for name in OF_HEADS):
        return {**settings, "head": "none"}
    return settings


def _check_output(output: str, names: tuple[str, ...]) -> None:
    """Check what can be checked before anything is compiled."""
    if len(names) > 1:
        raise click.UsageError("--output saves one program; give one model")
    from fxtransport.errors import SavedProgramError
    from fxtransport.files import check_writable

    check_writable(output, SavedProgramError)


def _save(program: "Program", output: str) -> None:
    from fxtransport.storage import save

    save(program, output)
    click.echo(f"saved in {output}", err=True)
