"""``fxtransport split``: cut a model into K modules."""

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from fxtransport.cli.common import Chosen, compiling, each_model, model_options, out_console

if TYPE_CHECKING:
    from fxtransport.ir import Shapes
    from fxtransport.models import ModelSpec
    from fxtransport.passes.base import Pass
    from fxtransport.program import Program
    from fxtransport.submodule import Target

MODULES = 4
"""K where neither ``--modules`` nor ``--cut`` is given."""


@click.command()
@click.option(
    "--modules",
    "-k",
    type=click.IntRange(min=1),
    metavar="K",
    help=f"The number of modules.  [default: {MODULES}]",
)
@click.option("--equal-depth", is_flag=True, help="As many residuals each (default).")
@click.option("--equal-weight", is_flag=True, help="As much --weight each.")
@click.option(
    "--weight",
    type=click.Choice(["activations", "parameters", "flops"]),
    help="What --equal-weight balances; activations are bytes saved for backward.  "
    "[default: activations]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    metavar="N",
    help="What activations are counted for.",
)
@click.option(
    "--cut",
    "cuts",
    multiple=True,
    metavar="PATH",
    help="Cut behind this module or node; may be repeated.",
)
@click.option(
    "--head",
    type=click.Choice(["auto", "conv", "token", "none"]),
    default="auto",
    show_default=True,
    help="Auxiliary heads of all modules but the last; auto makes none in a submodule, unless "
    "--num-classes is given.",
)
@click.option(
    "--num-classes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of the auxiliary heads; the model's by default.",
)
@click.option("--no-verify", is_flag=True, help="Do not compare numbers with the model's.")
@click.option("--output", type=click.Path(), metavar="DIR", help="Save the program here.")
@model_options
def split(
    names: tuple[str, ...],
    modules: int | None,
    equal_depth: bool,
    equal_weight: bool,
    weight: str | None,
    batch_size: int,
    cuts: tuple[str, ...],
    head: str,
    num_classes: int | None,
    no_verify: bool,
    output: str | None,
    pretrained: bool,
    input_size: tuple[int, ...] | None,
    submodule: str | None,
    as_json: bool,
) -> None:
    """Cut models into K modules, as even as can be, and show them.

    MODEL is a timm or torchvision name (timm:NAME, torchvision:NAME), or
    path/to/file.py:factory.

    For example: fxtransport split swin_tiny --modules 4 --equal-weight
    """
    if equal_depth and equal_weight:
        raise click.UsageError("--equal-depth and --equal-weight exclude one another")
    if weight is not None and not equal_weight:
        raise click.UsageError(
            "--weight says what --equal-weight balances; give --equal-weight too"
        )
    if output is not None:
        _check_output(output, names)
    if modules is None:
        modules = 1 if cuts else MODULES
    passes = _passes(
        modules, equal_weight, weight, batch_size, cuts, head, num_classes, verify=not no_verify
    )

    chosen = Chosen(pretrained, input_size, submodule)
    numbers = not no_verify or output is not None

    def compiled(spec: "ModelSpec", part: "Target") -> "tuple[ModelSpec, Target, Program]":
        from fxtransport.compiler import compile_program

        suited = _without_heads(passes) if part.path else passes
        return spec, part, compile_program(part.model, part.example, suited)

    def work(spec: "ModelSpec") -> None:
        from fxtransport.report.split_table import show

        with compiling(spec.canonical):
            spec, part, program = chosen.compile(spec, compiled, numbers=numbers)
        if output is not None:
            _save(program, output, spec.canonical)
        found = summary(program, spec.canonical, batch_size)
        found["whole_refused"] = None if part.refusal is None else str(part.refusal)
        if as_json:
            click.echo(json.dumps(found))
        else:
            show(out_console(), program, found)

    each_model(names, as_json, work)


def _check_output(output: str, names: tuple[str, ...]) -> None:
    """Before anything is compiled."""
    if len(names) > 1:
        raise click.UsageError("--output saves one program; give one model")
    from fxtransport.errors import SavedProgramError
    from fxtransport.files import check_writable

    check_writable(output, SavedProgramError)


def _passes(
    modules: int,
    equal_weight: bool,
    weight: str | None,
    batch_size: int,
    cuts: tuple[str, ...],
    head: str,
    num_classes: int | None,
    *,
    verify: bool,
) -> "tuple[Pass, ...]":
    from fxtransport.compiler import compile_passes
    from fxtransport.ir import Balance, HeadKind

    return compile_passes(
        modules=modules,
        balance=Balance(weight or "activations") if equal_weight else Balance.DEPTH,
        batch_size=batch_size,
        cuts=cuts,
        head=HeadKind(head),
        num_classes=num_classes,
        verify=verify,
    )


def _without_heads(passes: "tuple[Pass, ...]") -> "tuple[Pass, ...]":
    """Passes for a submodule: it returns no logits, whose number heads would take over."""
    from fxtransport.ir import HeadKind
    from fxtransport.passes.heads import PlanHeads

    by_default = PlanHeads()
    return tuple(replace(p, head=HeadKind.NONE) if p == by_default else p for p in passes)


def _save(program: "Program", output: str, canonical: str) -> None:
    from fxtransport.storage import save

    save(program, output, canonical)
    click.echo(f"saved in {output}", err=True)


def summary(program: "Program", canonical: str, batch_size: int) -> dict[str, Any]:
    """What ``--json`` prints; sizes in elements, operations of one sample, and bytes."""
    plan = program.facts.partition
    shapes = program.facts.shapes
    modules = []
    heads = program.facts.heads
    for k, segment in enumerate(plan.segments):
        modules.append(
            {
                "index": k,
                "residuals": segment.residuals,
                "blocks": list(segment.blocks),
                "parameters": segment.parameters,
                "flops": segment.flops,
                "activation_bytes": segment.activation_bytes,
                "input_shapes": _shapes(segment.inputs, shapes),
                "output_shapes": _shapes(segment.outputs, shapes),
                "head": {"kind": str(heads.heads[k].kind), **asdict(heads.costs[k])},
            }
        )
    report = program.facts.verification
    return {
        "model": canonical,
        "balance": str(plan.balance),
        "batch_size": batch_size,
        "unit": plan.unit,
        "modules": modules,
        "bottleneck": plan.bottleneck,
        "lower_bound": plan.lower_bound,
        "imbalance": plan.imbalance,
        "cuts": [cut.path for cut in plan.cuts],
        "crossing": [list(cut.tensors) for cut in plan.cuts],
        "max_error": None if report is None else report.max_error,
    }


def _shapes(names: tuple[str, ...], shapes: "Shapes") -> list[list[int]]:
    """Shapes without the batch of those values that are tensors."""
    return [list(shapes.specs[n].shape[1:]) for n in names if n in shapes.specs]
