"""A graph as Graphviz text."""

import json
from itertools import groupby
from typing import TYPE_CHECKING

from fxtransport.ir import Residuals
from fxtransport.report.nodes import holds_tensors, operation, part_numbers, shape_text

if TYPE_CHECKING:
    from fxtransport.unit import Unit


def dot(unit: "Unit") -> str:
    """A box for each node, clustered by part; residual additions are filled, skips colored."""
    numbers = part_numbers(unit)
    drawn = [node for node in unit.traced().nodes if holds_tensors(unit, node)]
    residuals = unit.fact(Residuals).tapped if unit.has(Residuals) else ()
    additions = {r.node for r in residuals}
    skips = {(r.skip, r.node) for r in residuals}
    lines = ["digraph program {", '  node [shape=box, fontname="sans-serif"];']
    for part, nodes in groupby(drawn, lambda node: numbers[node.name]):
        lines.append(f'  subgraph cluster_{part} {{ label="part {part}";')
        for node in nodes:
            label = "\n".join(filter(None, (operation(node), shape_text(unit, node))))
            style = ', style=filled, fillcolor="#ffd166"' if node.name in additions else ""
            lines.append(f"    {_quote(node.name)} [label={_quote(label)}{style}];")
        lines.append("  }")
    for node in drawn:
        for source in node.all_input_nodes:
            if holds_tensors(unit, source):
                style = ' [color="#ef476f"]' if (source.name, node.name) in skips else ""
                lines.append(f"  {_quote(source.name)} -> {_quote(node.name)}{style};")
    return "\n".join([*lines, "}"])


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
