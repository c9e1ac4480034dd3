"""A graph as plain text: node lines, differences between passes, Graphviz."""

import difflib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fxtransport.ir import Layers, PartitionPlan, Residuals, Shapes, Taps

if TYPE_CHECKING:
    from torch import fx

    from fxtransport.passes.base import Unit
    from fxtransport.passes.pipeline import PassRun


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


def dot(unit: "Unit") -> str:
    """Graphviz text: a box a node, clustered by module, residual additions filled."""
    graph = unit.traced()
    shapes = unit.fact(Shapes).specs
    numbers, marked = module_numbers(unit), marks(unit)
    lines = ["digraph program {", "  rankdir=TB;", '  node [shape=box, fontname="sans-serif"];']
    for module in sorted(set(numbers.values())):
        lines.append(f'  subgraph cluster_{module} {{ label="module {module}";')
        for node in graph.nodes:
            if numbers[node.name] != module or not _drawn(node, shapes):
                continue
            shape = shapes.get(node.name)
            label = operation(node) + ("" if shape is None else f"\n{list(shape.shape[1:])}")
            residual = any(m.startswith("residual") for m in marked.get(node.name, []))
            style = ', style=filled, fillcolor="#ffd166"' if residual else ""
            lines.append(f"    {json.dumps(node.name)} [label={json.dumps(label)}{style}];")
        lines.append("  }")
    for node in graph.nodes:
        for source in node.all_input_nodes:
            if _drawn(node, shapes) and _drawn(source, shapes):
                skip = ' [color="#ef476f"]' if _is_skip(unit, source, node) else ""
                lines.append(f"  {json.dumps(source.name)} -> {json.dumps(node.name)}{skip};")
    return "\n".join([*lines, "}"])


def _drawn(node: "fx.Node", shapes: object) -> bool:
    assert hasattr(shapes, "__contains__")
    return node.op in ("placeholder", "output") or (
        node.op != "get_attr" and node.name in shapes  # type: ignore[operator]
    )


def _is_skip(unit: "Unit", source: "fx.Node", node: "fx.Node") -> bool:
    residuals = unit.fact(Residuals).tapped if unit.has(Residuals) else ()
    return any(r.node == node.name and r.skip == source.name for r in residuals)
