"""A graph as plain text: node lines, differences between passes, Graphviz."""

import difflib
import json
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from fxtransport.ir import Layers, PartitionPlan, Residuals, Shapes, Taps
from fxtransport.report.words import shape

if TYPE_CHECKING:
    from torch import fx

    from fxtransport.passes.pipeline import PassRun
    from fxtransport.unit import Unit


def node_line(node: "fx.Node") -> str:
    """A node with its operation and arguments: ``add = add(fc2, shortcut)``."""
    if node.op == "output":
        return f"return {node.args[0]}"
    arguments = [str(a) for a in node.args]
    arguments += [f"{k}={v}" for k, v in node.kwargs.items()]
    called = f"{operation(node)}({', '.join(arguments)})" if arguments else operation(node)
    return f"{node.name} = {called}"


def operation(node: "fx.Node") -> str:
    """What a node does, in a word: a submodule's path, or a function's name."""
    if node.op == "placeholder":
        return "input"
    if isinstance(node.target, str):
        return f".{node.target}" if node.op == "call_method" else node.target
    return getattr(node.target, "__name__", str(node.target))


def diff(runs: Sequence["PassRun"]) -> str:
    """What each pass changed in the graph, as unified differences."""
    text = []
    for run in runs:
        if not run.rewrote:
            text.append(f"{run.name}: reads only")
            continue
        before = [] if run.before is None else [node_line(n) for n in run.before.nodes]
        after = [] if run.after is None else [node_line(n) for n in run.after.nodes]
        if not before:
            text.append(f"{run.name}: makes the graph, {len(after)} nodes")
            continue
        lines = list(difflib.unified_diff(before, after, "before", run.name, lineterm="", n=1))
        text.append(f"{run.name}: " + ("\n".join(["", *lines]) if lines else "changes nothing"))
    return "\n".join(text)


def module_numbers(unit: "Unit") -> dict[str, int]:
    """For each node, the module of the partition; all 0 where nothing is cut."""
    if unit.graph is None:
        return {}
    plan = unit.fact(PartitionPlan) if unit.has(PartitionPlan) else None
    ends = [] if plan is None else [cut.after for cut in plan.cuts]
    numbers, module = {}, 0
    for node in unit.graph.nodes:
        numbers[node.name] = module
        if module < len(ends) and node.name == ends[module]:
            module += 1
    return numbers


def marks(unit: "Unit") -> dict[str, list[str]]:
    """For each node, what it is: residual, skip, branch, layer, residue."""
    found: dict[str, list[str]] = {}

    def mark(name: str | None, text: str) -> None:
        if name is not None and text not in found.setdefault(name, []):
            found[name].append(text)

    for r in unit.fact(Residuals).found if unit.has(Residuals) else ():
        mark(r.node, f"residual {r.kind}" if r.tapped else "inner")
        if r.tapped:
            mark(r.skip, "skip")
            for branch in r.branch:
                mark(branch, "branch")
    for layer in unit.fact(Layers).found if unit.has(Layers) else ():
        mark(layer.output, "layer")
    for name in unit.fact(Taps).added if unit.has(Taps) else ():
        mark(name, "residue")
    return found


def is_shown(unit: "Unit", node: "fx.Node") -> bool:
    """Whether a node holds what a reader follows: tensors, not sizes or parameters."""
    if node.op in ("placeholder", "output"):
        return True
    shapes = unit.fact(Shapes)
    holds_tensors = node.name in shapes.specs or node.name in shapes.compound
    return holds_tensors and node.op != "get_attr"


def shape_text(unit: "Unit", node: "fx.Node") -> str:
    """A shape in terms of the batch: B×3×224×224, or 64B×49×96 for windows."""
    shapes = unit.fact(Shapes)
    spec = shapes.specs.get(node.name)
    if spec is None or not spec.shape:
        return ""
    times, odd = divmod(spec.shape[0], shapes.batch_size)
    batch = str(spec.shape[0]) if odd else f"{times if times > 1 else ''}B"
    return shape([batch, *spec.shape[1:]])


def dot(unit: "Unit") -> str:
    """Graphviz text: a box a node, clustered by module, residual additions filled."""
    numbers = module_numbers(unit)
    drawn = [node for node in unit.traced().nodes if is_shown(unit, node)]
    residuals = unit.fact(Residuals).tapped if unit.has(Residuals) else ()
    additions = {r.node for r in residuals}
    skips = {(r.skip, r.node) for r in residuals}
    lines = ["digraph program {", '  node [shape=box, fontname="sans-serif"];']
    for module, nodes in groupby(drawn, lambda node: numbers[node.name]):
        lines.append(f'  subgraph cluster_{module} {{ label="module {module}";')
        for node in nodes:
            label = "\n".join(filter(None, (operation(node), shape_text(unit, node))))
            style = ', style=filled, fillcolor="#ffd166"' if node.name in additions else ""
            lines.append(f"    {_quoted(node.name)} [label={_quoted(label)}{style}];")
        lines.append("  }")
    for node in drawn:
        for source in node.all_input_nodes:
            if is_shown(unit, source):
                style = ' [color="#ef476f"]' if (source.name, node.name) in skips else ""
                lines.append(f"  {_quoted(source.name)} -> {_quoted(node.name)}{style};")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
