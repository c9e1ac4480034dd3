"""``fxtransport inspect``: the rewritten graph of a model."""

import json
from typing import TYPE_CHECKING, Any

import click

from fxtransport.cli.common import Chosen, compiling, each_model, model_options, out_console

if TYPE_CHECKING:
    from fxtransport.models import ModelSpec
    from fxtransport.passes.pipeline import PassRun
    from fxtransport.submodule import Target
    from fxtransport.unit import Unit

DEFAULT = "boundaries"


@click.command()
@click.option("--pipeline", default=DEFAULT, show_default=True, metavar="TEXT", help="The passes.")
@click.option("--after", metavar="PASS", help="Stop behind this pass.")
@click.option("--code", is_flag=True, help="The generated Python instead of the table.")
@click.option("--dot", is_flag=True, help="Graphviz text instead of the table.")
@click.option("--diff", is_flag=True, help="What each pass changed instead of the table.")
@click.option("--all", "everything", is_flag=True, help="Also nodes that hold no tensor.")
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
    input_size: tuple[int, ...] | None,
    submodule: str | None,
    as_json: bool,
) -> None:
    """Show the graph that a model is rewritten to, one line per node, with marks.

    MODEL is a timm or torchvision name (timm:NAME, torchvision:NAME), or
    path/to/file.py:factory.

    For example: fxtransport inspect swin_tiny --pipeline 'partition{modules=4},taps'
    """
    if sum((code, dot, diff, as_json)) > 1:
        raise click.UsageError("--code, --dot, --diff and --json exclude one another; give one")
    from fxtransport.passes.pipeline import Pipeline, run_passes
    from fxtransport.report import graph_text, graph_view
    from fxtransport.unit import Unit

    passes = Pipeline.parse(pipeline).passes
    numbers = any(p.name == "verify" for p in passes)

    chosen = Chosen(pretrained, input_size, submodule)

    def compiled(spec: "ModelSpec", part: "Target") -> "tuple[ModelSpec, Unit, list[PassRun]]":
        runs: list[PassRun] = []
        unit = Unit(part.model, part.example)
        return spec, run_passes(unit, passes, after=after, observe=runs.append), runs

    def work(spec: "ModelSpec") -> None:
        with compiling(spec.canonical):
            spec, unit, runs = chosen.compile(spec, compiled, numbers=numbers)
        if as_json:
            click.echo(json.dumps(description(unit, spec.canonical)))
        elif diff:
            click.echo(graph_text.diff(runs))
        elif unit.graph is None:
            click.echo(f"{runs[-1].name} leaves no graph yet; trace makes it", err=True)
        elif code:
            click.echo(unit.graph.python_code("self").src.strip())
        elif dot:
            click.echo(graph_text.dot(unit))
        else:
            graph_view.show(out_console(), unit, spec.canonical, runs, everything=everything)

    each_model(names, as_json, work)


def description(unit: "Unit", canonical: str) -> dict[str, Any]:
    """What ``--json`` prints. Shapes are without the batch."""
    from fxtransport.ir import Boundaries, Layers, Residuals
    from fxtransport.report.graph_text import module_numbers

    numbers = module_numbers(unit)
    residuals = unit.fact(Residuals).found if unit.has(Residuals) else ()
    layers = unit.fact(Layers).found if unit.has(Layers) else ()
    boundaries = unit.fact(Boundaries) if unit.has(Boundaries) else None
    legal = boundaries.legal if boundaries else ()
    return {
        "model": canonical,
        "input_shape": list(unit.example.inputs[0].shape[1:]),
        "parameters": sum(p.numel() for p in unit.model.parameters()),
        "nodes": 0 if unit.graph is None else len(unit.graph.nodes),
        "residuals": [
            {
                "path": r.path,
                "kind": str(r.kind),
                "node": r.node,
                "skip": r.skip,
                "branch": " + ".join(r.branch) or None,
                "shape": list(r.shape),
                "stage": r.stage,
                "module": numbers[r.node],
            }
            for r in residuals
        ],
        "layers": [
            {
                "path": layer.path,
                "input": layer.input,
                "output": layer.output,
                "shape": list(layer.shape),
                "stage": layer.stage,
                "module": numbers[layer.output],
            }
            for layer in layers
        ],
        "boundaries": [
            {
                "after": b.after,
                "path": b.path,
                "units": b.units,
                "tensors": list(b.tensors),
                "crossing": list(b.crossing),
            }
            for b in legal
        ],
    }
