"""``fxtransport inspect``: the rewritten graph of a model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxtransport.cli.common import (
    compile_model,
    compiling,
    each_model,
    model_options,
    out_console,
    trust_option,
)

if TYPE_CHECKING:
    from fxtransport.input_size import InputSize
    from fxtransport.models import ModelSpec
    from fxtransport.passes.pipeline import PassRun
    from fxtransport.submodule import Target
    from fxtransport.unit import Unit

DEFAULT = "boundaries"
"""The pipeline where none is given: all that is known before a cut."""


@click.command()
@click.option(
    "--pipeline",
    default=DEFAULT,
    show_default=True,
    metavar="TEXT",
    help="The passes to run, with their options.",
)
@click.option("--after", metavar="PASS", help="Stop after this pass.")
@click.option("--code", is_flag=True, help="Show the generated Python instead.")
@click.option("--dot", is_flag=True, help="Show Graphviz text instead.")
@click.option("--diff", is_flag=True, help="Show what each pass changed instead.")
@click.option(
    "--all", "everything", is_flag=True, help="List every node, with its name and arguments."
)
@trust_option
@model_options
def inspect(
    names: tuple[str, ...],
    pipeline: str,
    after: str | None,
    code: bool,
    dot: bool,
    diff: bool,
    everything: bool,
    pretrained: bool,
    input_size: "InputSize | None",
    submodule: str | None,
    trust_files: bool,
    as_json: bool,
) -> None:
    """Show the graph that a model is rewritten to, one line for each node, with marks.

    MODEL is a timm or torchvision name (timm:NAME, torchvision:NAME),
    path/to/file.py:factory, or the folder of a run of fxtransport train. For a run, a column shows
    how near each identity block is to an optimal map: the exact W2 between the samples before
    and after the block over the way that they are moved, 1 for an optimal map.

    For example: fxtransport inspect swin_tiny --pipeline 'partition{modules=4}'
    """
    forms = {"code": code, "dot": dot, "diff": diff, "json": as_json}
    if sum(forms.values()) > 1:
        raise click.UsageError("--code, --dot, --diff and --json exclude one another; give one")
    form = next((name for name, chosen in forms.items() if chosen), "listing")
    from fxtransport.passes.pipeline import Pipeline, run_passes
    from fxtransport.unit import Unit

    passes = Pipeline.parse(pipeline).passes
    needs_values = any(p.name == "verify" for p in passes)

    def compile_one(target: "Target") -> "tuple[str, Unit, list[PassRun]]":
        runs: list[PassRun] = []
        unit = Unit(target.model, target.example)
        return target.name, run_passes(unit, passes, after=after, observe=runs.append), runs

    def work(spec: "ModelSpec") -> None:
        with compiling(spec.canonical):
            name, unit, runs = compile_model(
                spec,
                compile_one,
                pretrained=pretrained,
                input_size=input_size,
                submodule=submodule,
                numbers=needs_values,
            )
        _print(unit, name, runs, form, everything=everything)

    runs = tuple(name for name in names if _is_run(name))
    if runs and (code or dot or diff):
        raise click.UsageError("--code, --dot and --diff are for models, not for runs")
    for name in runs:
        _show_run(name, as_json=as_json, everything=everything, trust_files=trust_files)
    models = tuple(name for name in names if name not in runs)
    if models:
        each_model(models, as_json, work)


def _print(unit: "Unit", name: str, runs: "list[PassRun]", form: str, *, everything: bool) -> None:
    from fxtransport.report.description import description
    from fxtransport.report.diff import diff
    from fxtransport.report.dot import dot

    if form == "json":
        click.echo(json.dumps(description(unit, name)))
    elif form == "diff":
        click.echo(diff(runs))
    elif unit.graph is None:
        click.echo(f"{runs[-1].name} leaves no graph yet; trace makes it", err=True)
    elif form == "code":
        click.echo(unit.graph.python_code("self").src.strip())
    elif form == "dot":
        click.echo(dot(unit))
    else:
        _print_listing(unit, name, runs, everything=everything)


def _is_run(name: str) -> bool:
    return (Path(name) / "config.toml").is_file()


def _show_run(name: str, *, as_json: bool, everything: bool, trust_files: bool) -> None:
    """The listing of a run's model, with how near its blocks are to optimal maps."""
    from fxtransport.comparing.networks import open_network
    from fxtransport.comparing.optimality import by_node, movements_of, to_json
    from fxtransport.passes.pipeline import Pipeline, run_passes
    from fxtransport.report.description import description
    from fxtransport.report.graph_table import show
    from fxtransport.targets import open_target
    from fxtransport.unit import Unit

    with compiling(name):
        network = open_network(name, trust_files=trust_files)
        origin, example = network.program.facts.origin, network.program.facts.example
        assert origin is not None
        target = open_target(origin.model, options=origin.options, example=example)
        unit = run_passes(Unit(target.model, target.example), Pipeline.parse(DEFAULT).passes)
        found = by_node(movements_of(network), unit)
    if as_json:
        blocks = {node: to_json(movement) for node, movement in found.items()}
        click.echo(json.dumps({**description(unit, name), "movements": blocks}))
        return
    texts = {node: f"{movement.optimality:.3f}" for node, movement in found.items()}
    show(out_console(), unit, name, everything=everything, optimality=texts)


def _print_listing(
    unit: "Unit", canonical: str, runs: "list[PassRun]", *, everything: bool
) -> None:
    from fxtransport.report.graph_table import show
    from fxtransport.report.nodes import holds_tensors
    from fxtransport.report.words import plural

    console = out_console()
    show(console, unit, canonical, everything=everything)
    console.print()
    hidden = sum(not holds_tensors(unit, node) for node in unit.traced().nodes)
    if hidden and not everything:
        left_out = f"{plural(hidden, 'node')} on sizes and parameters left out"
        console.print(f"[dim]{left_out}; --all shows them[/]")
    milliseconds = ", ".join(f"{run.name} {1000 * run.seconds:.0f}" for run in runs)
    console.print(f"[dim]milliseconds: {milliseconds}[/]")
