"""Say which nodes of the graph are residual additions, skips and branches."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from fxtransport.ir import Residual, Residuals
from fxtransport.passes.additions import Addition, RecordedAdditions, Term
from fxtransport.passes.base import Pass, Unit
from fxtransport.passes.trace import Origins


@dataclass(frozen=True)
class FindResiduals(Pass):
    """Find the nodes of each residual addition: the sum, its skip and its branch."""

    name: ClassVar[str] = "residuals"
    requires: ClassVar[tuple[type, ...]] = (RecordedAdditions, Origins)
    provides: ClassVar[tuple[type, ...]] = (Residuals,)

    def run(self, unit: Unit) -> Unit:
        """Add the residuals."""
        origins = unit.fact(Origins)
        additions = unit.fact(RecordedAdditions).found
        numbers = stage_numbers(a.shape for a in additions)
        found = tuple(
            _residual(a, stage, origins) for a, stage in zip(additions, numbers, strict=True)
        )
        return unit.with_facts(Residuals(found))


def stage_numbers(shapes: Iterable[tuple[int, ...]]) -> list[int]:
    """The number of each shape's stage: a stage is a run of one shape.

    Shapes with as many elements count as one, for blocks that add once to a map and once to
    the map's tokens.

    >>> stage_numbers([(4, 4, 8), (16, 8), (4, 8), (16, 8)])
    [0, 0, 1, 2]
    """
    numbers: list[int] = []
    last: int | None = None
    for shape in shapes:
        size = math.prod(shape)
        numbers.append(numbers[-1] + (size != last) if numbers else 0)
        last = size
    return numbers


def _residual(addition: Addition, stage: int, origins: Origins) -> Residual:
    def node_of(term: Term) -> str | None:
        operands = origins.operands[term.op]
        return operands[term.operand] if addition.path in origins.opened else None

    skip, branch = node_of(addition.skip), [node_of(t) for t in addition.branch]
    known = tuple(b for b in branch if b is not None)
    assert not addition.tapped or (skip is not None and len(known) == len(branch)), (
        f"{addition.path} was opened for its residual, whose operands are no nodes"
    )
    return Residual(
        path=addition.path,
        kind=addition.kind,
        node=origins.op_nodes[addition.op],
        skip=skip,
        branch=known,
        shape=addition.shape[1:],
        stage=stage,
    )
