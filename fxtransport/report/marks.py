"""What nodes are to the residuals and layers of a model, numbered in execution order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fxtransport.ir import Layers, Residuals, Taps

if TYPE_CHECKING:
    from fxtransport.unit import Unit

SYMBOLS = {"residual": "⊕", "inner": "⊕", "skip": "↷", "branch": "↳", "layer": "→", "residue": "⇥"}
"""The symbol of each kind of mark."""


@dataclass(frozen=True)
class Mark:
    """What a node is to one residual or layer."""

    kind: str
    """A key of ``SYMBOLS``; ``inner`` is a residual whose residue is not returned."""
    text: str
    path: str | None = None
    """The path of the residual or layer, where the mark names it."""

    def text_at(self, *places: str) -> str:
        """The mark as it is shown; the path is left out if it is one of these."""
        shown = f"{SYMBOLS[self.kind]} {self.text}"
        if self.path is None or self.path in places:
            return shown
        return f"{shown} of {self.path or 'the model'}"


def marks(unit: "Unit") -> Mapping[str, tuple[Mark, ...]]:
    """The marks of each node; nodes without any are missing."""
    found: dict[str, list[Mark]] = {}

    def mark(name: str, kind: str, text: str, path: str | None = None) -> None:
        found.setdefault(name, []).append(Mark(kind, text, path))

    for number, r in enumerate(unit.fact(Residuals).found if unit.has(Residuals) else ()):
        kind = "residual" if r.tapped else "inner"
        mark(r.node, kind, f"{r.kind} {number}", r.path)
        if r.skip is not None:
            mark(r.skip, "skip", f"skip {number}")
        for branch in r.branch:
            mark(branch, "branch", f"branch {number}")
    for number, layer in enumerate(unit.fact(Layers).found if unit.has(Layers) else ()):
        mark(layer.output, "layer", f"layer {number}", layer.path)
    for number, residue in enumerate(unit.fact(Taps).residues if unit.has(Taps) else ()):
        mark(residue, "residue", f"residue {number}")
    return {name: tuple(own) for name, own in found.items()}


def without_plain_residues(own: Sequence[Mark]) -> tuple[Mark, ...]:
    """The marks of a node that are worth showing: a branch need not say that it is the residue."""
    is_branch = any(mark.kind == "branch" for mark in own)
    return tuple(mark for mark in own if not (is_branch and mark.kind == "residue"))
