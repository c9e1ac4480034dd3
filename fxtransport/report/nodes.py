"""One node of a graph in words: what it computes, its shape, and the part that it is in."""

import operator
from typing import TYPE_CHECKING, Any

from fxtransport.ir import PartitionPlan, Shapes
from fxtransport.report.words import shape

if TYPE_CHECKING:
    from torch import fx

    from fxtransport.unit import Unit


def operation(node: "fx.Node") -> str:
    """What a node does, in a word: a submodule's path, or a function's name."""
    if node.op == "placeholder":
        return "input"
    if isinstance(node.target, str):
        return f".{node.target}" if node.op == "call_method" else node.target
    return getattr(node.target, "__name__", str(node.target))


def expression(node: "fx.Node") -> str:
    """What a node computes and of what, as Python writes it: ``self.fc(x)``, ``add(a, b)``."""
    if node.op == "placeholder":
        return "input"
    if node.op == "output":
        return f"return {node.args[0]}"
    if node.op == "get_attr":
        return f"self.{node.target}"
    given = argument_texts(node)
    if node.target is operator.getitem:
        return f"{given[0]}[{_index(node.args[1])}]"
    if node.target is getattr:
        return ".".join(given)
    if node.op == "call_method":
        return f"{given[0]}.{node.target}({', '.join(given[1:])})"
    called = f"self.{node.target}" if node.op == "call_module" else operation(node)
    return f"{called}({', '.join(given)})"


def argument_texts(node: "fx.Node") -> list[str]:
    """The arguments of a node, each as Python writes it."""
    return [*map(str, node.args), *(f"{key}={value}" for key, value in node.kwargs.items())]


def _index(key: Any) -> str:
    """What stands between brackets: ``:, :4``."""
    if isinstance(key, tuple):
        return ", ".join(map(_index, key))
    if not isinstance(key, slice):
        return str(key)
    text = ":".join("" if end is None else str(end) for end in (key.start, key.stop, key.step))
    return text if key.step else text[:-1]


def node_line(node: "fx.Node") -> str:
    """A node as a line of code: ``add = add(fc2, shortcut)``."""
    if node.op == "output":
        return expression(node)
    return f"{node.name} = {expression(node)}"


def name_below(name: str, path: str) -> str | None:
    """The name of a node below the path of the module that runs it; None if it is elsewhere.

    >>> name_below("layers_1_add", "layers.1"), name_below("_1_add", "1")
    ('add', 'add')
    >>> name_below("add", "layers.1")
    """
    prefix = f"{path.replace('.', '_')}_"
    # a name in Python cannot begin with a digit
    prefix = f"_{prefix}" if prefix[0].isdigit() else prefix
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def part_numbers(unit: "Unit") -> dict[str, int]:
    """For each node, the part of the program that it is in; all 0 where nothing is cut."""
    if unit.graph is None:
        return {}
    plan = unit.fact(PartitionPlan) if unit.has(PartitionPlan) else None
    ends = [] if plan is None else [cut.after for cut in plan.cuts]
    numbers, part = {}, 0
    for node in unit.graph.nodes:
        numbers[node.name] = part
        if part < len(ends) and node.name == ends[part]:
            part += 1
    return numbers


def holds_tensors(unit: "Unit", node: "fx.Node") -> bool:
    """Whether a node is part of the data flow, and not a size or a parameter."""
    if node.op in ("placeholder", "output"):
        return True
    shapes = unit.fact(Shapes)
    computes_tensors = node.name in shapes.specs or node.name in shapes.compound
    return computes_tensors and node.op != "get_attr"


def shape_text(unit: "Unit", node: "fx.Node") -> str:
    """A shape in terms of the batch: B×3×224×224, or 64B×49×96 for windows.

    Parameters and buffers have no batch; their shape is what it is.
    """
    shapes = unit.fact(Shapes)
    spec = shapes.specs.get(node.name)
    if spec is None or not spec.shape:
        return ""
    if node.op == "get_attr":
        return shape(spec.shape)
    times, remainder = divmod(spec.shape[0], shapes.batch_size)
    batch = str(spec.shape[0]) if remainder else f"{times if times > 1 else ''}B"
    return shape([batch, *spec.shape[1:]])
