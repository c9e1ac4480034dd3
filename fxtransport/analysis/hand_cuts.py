"""Cuts that are placed by hand, after a module or a node."""

import difflib
from collections.abc import Sequence

from torch import fx

from fxtransport.analysis.cut_points import boundary_at
from fxtransport.errors import PartitionError
from fxtransport.ir import Boundary, Origins
from fxtransport.unit import Unit


def place_cuts(unit: Unit, cuts: Sequence[str]) -> tuple[Boundary, ...]:
    """The boundaries after modules, named by path, or nodes, in execution order.

    Any node is allowed, whatever crosses after it.

    Raises:
        PartitionError: there is no such module or node in the graph, two cuts fall in one
            place, or nothing is left after one.
    """
    computing = [
        (i, node)
        for i, node in enumerate(unit.traced().nodes)
        if node.op not in ("placeholder", "get_attr", "output")
    ]
    placed: dict[int, str] = {}
    for cut in cuts:
        position = _position(unit, computing, cut)
        if position in placed:
            raise PartitionError(
                f"the cuts after {placed[position]!r} and {cut!r} fall in the same place; "
                f"leave one out"
            )
        if position == computing[-1][0]:
            raise PartitionError(
                f"nothing is left after {cut!r}, so no cut can follow it; cut earlier"
            )
        placed[position] = cut
    return tuple(boundary_at(unit, position) for position in sorted(placed))


def _position(unit: Unit, computing: Sequence[tuple[int, fx.Node]], cut: str) -> int:
    """The position of the last node of a module, or of the node of this name."""
    owners = unit.fact(Origins).owners
    paths = {
        node.name: str(node.target) if node.op == "call_module" else owners.get(node.name, "")
        for _, node in computing
    }
    inside = [i for i, node in computing if f"{paths[node.name]}.".startswith(f"{cut}.")]
    named = [i for i, node in computing if node.name == cut]
    if inside or named:
        return max(inside or named)
    raise PartitionError(_unknown(unit, paths, cut))


def _unknown(unit: Unit, paths: dict[str, str], cut: str) -> str:
    """Why there can be no cut after a path, and what may be meant."""
    modules = dict(unit.model.named_modules())
    around = next((p for p in paths.values() if p and cut.startswith(f"{p}.")), None)
    if cut in modules and around is not None:
        return (
            f"cannot cut after {cut!r}: it lies inside {around!r}, which is one node; "
            f"cut after that, or open it with trace{{open={around}}}"
        )
    if cut in modules:
        return f"cannot cut after {cut!r}: it computes nothing in this model's forward"
    known = {p for p in paths.values() if p}
    known |= {p.rpartition(".")[0] for p in known if "." in p}
    close = difflib.get_close_matches(cut, sorted(known | paths.keys()), n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return (
        f"cannot cut after {cut!r}: {type(unit.model).__name__} has no such module or "
        f"node{hint or '; fxtransport inspect lists them'}"
    )
