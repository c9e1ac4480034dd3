"""What each pass of a pipeline changed in the graph."""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fxtransport.report.nodes import node_line

if TYPE_CHECKING:
    from fxtransport.passes.pipeline import PassRun


def diff(runs: Sequence["PassRun"]) -> str:
    """A line for each pass, with a unified diff where it changed the graph."""
    return "\n".join(f"{run.name}: {_change(run)}" for run in runs)


def _change(run: "PassRun") -> str:
    if not run.rewrote:
        return "reads only"
    before, after = (
        [] if graph is None else [node_line(node) for node in graph.nodes]
        for graph in (run.before, run.after)
    )
    if not before:
        return f"makes the graph, {len(after)} nodes"
    lines = list(difflib.unified_diff(before, after, "before", run.name, lineterm="", n=1))
    return "\n".join(["", *lines]) if lines else "changes nothing"
