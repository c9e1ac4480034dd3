"""Sparse plans as tensors, and the search for them as one operator of torch."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fxtransport.ot.costs import accurate, has_no_data
from fxtransport.ot.plans import support
from fxtransport.ot.rehearsal import hold_support


def find_support(
    student: Tensor, teacher: Tensor, plan: str, p: float, solver: str, mass: float
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Find the pairs of neurons that share mass, without gradient.

    Under ``torch.compile``, the search is one operator of its own, and breaks no graph. On tensors
    without data it makes what a search makes, and finds a plan of the right shape.

    Args:
        student: A, d×n.
        teacher: T, d'×n.
        plan: ``exact``, ``identity`` or ``partial``.
        p: The power of the distance.
        solver: One of ``fxtransport.ot.solvers.SOLVERS``.
        mass: The share of the mass that a partial plan carries.

    Returns:
        Rows, columns and mass, padded by pairs without mass to a length that follows from the
        shapes. None for rows are all rows, in order.
    """
    compiles = torch.compiler.is_compiling()
    if not compiles and has_no_data(student):
        hold_support(student, teacher, plan, p)
        rows, columns, carried = _empty_support(student, teacher, plan)
    else:
        search = _operator if compiles else _padded_support
        rows, columns, carried = search(student.detach(), teacher.detach(), plan, p, solver, mass)
    every = len(student) == len(teacher) and plan != "partial"
    return None if every else rows, columns, carried


def _padded_support(
    student: Tensor, teacher: Tensor, plan: str, p: float, solver: str, mass: float
) -> tuple[Tensor, Tensor, Tensor]:
    found = support(student, teacher, plan, p, solver, mass)
    missing = _length(student, teacher, plan) - len(found.mass)
    rows, columns, carried = (torch.from_numpy(part) for part in found)
    if missing:
        rows, columns, carried = (F.pad(part, (0, missing)) for part in (rows, columns, carried))
    device = student.device
    return rows.to(device), columns.to(device), carried.to(accurate(device)).to(device)


_operator = torch.library.custom_op(
    "fxtransport::transport_support", _padded_support, mutates_args=()
)


@_operator.register_fake
def _empty_support(
    student: Tensor, teacher: Tensor, plan: str, *_: object
) -> tuple[Tensor, Tensor, Tensor]:
    length = _length(student, teacher, plan)
    index = student.new_empty(length, dtype=torch.int64)
    mass = student.new_empty(length, dtype=accurate(student.device))
    return index, torch.empty_like(index), mass


def _length(student: Tensor, teacher: Tensor, plan: str) -> int:
    """The largest number of pairs that share mass: a plan at a vertex has no more."""
    if len(student) == len(teacher) and plan != "partial":
        return len(student)
    return len(student) + len(teacher) + (1 if plan == "partial" else -1)
