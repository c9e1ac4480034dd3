"""Distances between neurons: a matrix to solve with, and the cost of a plan's support.

The two are computed apart. A solver needs all d×d' distances, but no gradient. The cost needs
only those pairs that share mass, in float64 and with a gradient (envelope theorem).
"""

import contextlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from fxtransport.errors import SolverError, UsageError

_CLOSE = 0.4
"""Distances below this share of a neuron's norm are computed again, without cancellation."""
_MODERATE = 2.0**40
"""Largest activations up to here, and down to its inverse, need no factor."""
_MANY = 16
"""More close pairs than this for each neuron, and all distances are computed that way."""


def check_power(p: float) -> None:
    """Refuse a power that makes no distance.

    Raises:
        UsageError: p is less than 1 or not finite.
    """
    if not 1 <= p < math.inf:
        raise UsageError(f"p must be a number of at least 1, not {p}")


def check_activations(student: Tensor, teacher: Tensor) -> None:
    """Refuse activations whose shapes, dtypes or devices do not fit.

    Raises:
        UsageError: a matrix is not d×n and floating point, or the two do not fit each other.
    """
    for name, value in (("A", student), ("T", teacher)):
        if value.ndim != 2 or 0 in value.shape:
            shape = "×".join(map(str, value.shape)) or "a scalar"
            raise UsageError(
                f"{name} must be a matrix of neurons × samples that is not empty, not {shape}; "
                "pool maps and transpose a batch of features: features.T"
            )
        if not value.is_floating_point():
            raise UsageError(f"{name} must be of real floating-point numbers, not {value.dtype}")
    if student.shape[1] != teacher.shape[1]:
        raise UsageError(
            f"A has {student.shape[1]} samples and T {teacher.shape[1]}: both must hold the "
            "activations of the same batch"
        )
    if student.device != teacher.device:
        raise UsageError(f"A is on {student.device} and T on {teacher.device}; move one of them")


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A context in which autocast does not lower the precision of a device's operations."""
    return torch.autocast(device.type, enabled=False)


def accurate(device: torch.device) -> torch.dtype:
    """The most accurate dtype of a device: float64, where it has one."""
    return torch.float32 if device.type == "mps" else torch.float64


def has_no_data(tensor: Tensor) -> bool:
    """Whether a tensor has a shape, a dtype and a device only, so that no solver can run on it."""
    return tensor.is_meta or isinstance(tensor, FakeTensor)


def _multiplies_exactly(device: torch.device) -> bool:
    """Whether no setting of the process has matrices of float32 multiplied as TF32 or bfloat16.

    :func:`torch.get_float32_matmul_precision` fails once a backend has a precision of its own.
    """
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    return backend.matmul.fp32_precision in ("none", "ieee")


@dataclass(frozen=True)
class Scaled:
    """Activations of two layers up to one common factor, as plans are found from them.

    The factor keeps squares within the range of the dtype. It changes no plan.
    """

    student: Tensor
    """d×n, float32; float64 where one of the two was, or float32 products are rounded to less."""
    teacher: Tensor
    """d'×n, of the same dtype."""
    dead_student: Tensor
    """Which of the student's neurons are 0 on all samples."""
    dead_teacher: Tensor
    """Which of the teacher's neurons are."""

    @staticmethod
    @torch.no_grad()
    def of(student: Tensor, teacher: Tensor) -> "Scaled":
        """Scale the activations of a student, d×n, and of a teacher, d'×n.

        Raises:
            SolverError: an activation is not finite.
        """
        least = torch.float32 if _multiplies_exactly(student.device) else accurate(student.device)
        dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), least)
        first, second = student.detach().to(dtype), teacher.detach().to(dtype)
        largest, others = first.abs().amax(1), second.abs().amax(1)
        size = float(torch.maximum(largest.max(), others.max()))
        if not math.isfinite(size):
            raise SolverError(_not_finite(student, teacher))
        if size > 0 and not 1 / _MODERATE <= size <= _MODERATE:
            first, second = first / size, second / size
        return Scaled(first, second, largest == 0, others == 0)

    @torch.no_grad()
    def costs(self, p: float = 1.0) -> Tensor:
        """Return ‖A_i − T_j‖₂^p for all pairs, d×d', up to the factor."""
        with without_autocast(self.student.device):
            costs = _distances(self.student, self.teacher)
            _make_equal(costs, self.dead_student)
            _make_equal(costs.T, self.dead_teacher)
            return costs if p == 1 else costs.pow_(p)


def _not_finite(student: Tensor, teacher: Tensor) -> str:
    """Say which activations are not finite."""
    found = []
    for name, value in (("A", student), ("T", teacher)):
        wrong = ~value.isfinite()
        if wrong.any():
            neuron = int(wrong.any(1).nonzero()[0])
            found.append(f"{int(wrong.sum())} of {name}, the first in neuron {neuron}")
    return (
        f"activations are not finite: {' and '.join(found)}; no plan exists. Check the inputs, "
        "or lower the learning rate"
    )


def places(mask: Tensor) -> Tensor:
    """Where a mask is true, by flat indices; NumPy is faster at this on the CPU.

    Without data, nowhere.
    """
    if has_no_data(mask):
        return mask.new_empty(0, dtype=torch.int64)
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().squeeze(1)


def _make_equal(costs: Tensor, dead: Tensor) -> None:
    """Give the rows of dead neurons the same costs to the last bit; rounding depends on places."""
    group = places(dead)
    if len(group) > 1:
        costs[group] = costs[group[0]].clone()


def _distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances, by a matrix product but for pairs so close that digits would cancel.

    What all neurons have in common cancels in distances, and is subtracted first.
    """
    center = second.mean(0)
    left = first - center
    distances = torch.cdist(left, second - center, compute_mode="use_mm_for_euclid_dist")
    limits = _CLOSE * torch.linalg.vector_norm(left, dim=1)
    # the least of a row is found faster than all that are below its limit
    some = places(distances.amin(1) < limits)
    if len(some):
        close = places(distances[some] < limits[some, None])
        if len(close) > _MANY * (len(first) + len(second)):
            return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
        rows, columns = some[close // len(second)], close % len(second)
        exact = torch.linalg.vector_norm(first[rows] - second[columns], dim=1)
        distances[rows, columns] = exact
    return distances


def support_cost(
    student: Tensor, teacher: Tensor, rows: Tensor | None, columns: Tensor, mass: Tensor, p: float
) -> Tensor:
    """Return Σ_k mass_k ‖A_{rows_k} − T_{columns_k}‖₂^p, a scalar.

    Computed in float64. Where two neurons are equal, distance and gradient are exactly 0, as are
    all higher derivatives for p ≠ 2.

    Args:
        student: A, d×n.
        teacher: T, d'×n.
        rows: Indices of A's neurons; None for all, in order.
        columns: As many indices of T's neurons.
        mass: As many masses.
        p: The power.

    Returns:
        A scalar, float64 where the device has it.
    """
    with without_autocast(student.device):
        dtype = accurate(student.device)
        chosen = student if rows is None else student[rows]
        difference = chosen.to(dtype) - teacher[columns].to(dtype)
        powers = power_of_square((difference * difference).sum(1), p)
        return (mass * powers).sum()


def power_of_square(squares: Tensor, p: float) -> Tensor:
    """Return distances to the power p from their squares; at 0, all derivatives are 0."""
    if p == 2:
        return squares
    apart = squares > 0
    safe = torch.where(apart, squares, 1)
    powers = safe.sqrt() if p == 1 else safe ** (p / 2)
    return torch.where(apart, powers, 0)
