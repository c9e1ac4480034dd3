"""Assignments that need no solver: the nearest neurons of all, where these differ.

No plan costs less than that in which each neuron gives all to the nearest one. Where no two have
the same nearest neuron, that plan is an assignment, and so an optimal one, for any power of the
distance. Between a network and what fine-tuning makes of it, it mostly is.

That all others are further away is proven without their distances: what some of the samples add to
a squared distance is a lower bound of it.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fxtransport.ot.assignment import Indices
from fxtransport.ot.costs import Scaled, without_autocast
from fxtransport.ot.notices import say_choice

_FIRST = 32
"""Neurons that are looked at before all are."""
_SHARES = (4, 1)
"""A quarter of the samples mostly proves it; then all are tried."""


@torch.no_grad()
def nearest(pair: Scaled) -> Indices | None:
    """Find the nearest neuron of the teacher for each of the student.

    Args:
        pair: Activations of as many neurons of both, d×n.

    Returns:
        The column of each row, a permutation of 0 … d−1; None where two rows have the same
        nearest column, or where rounding leaves open which one is the nearest.
    """
    with without_autocast(pair.student.device):
        student, teacher = pair.student, pair.teacher
        own = torch.arange(len(student), device=student.device)
        same = (student == teacher).all(1)
        first = _columns(_Part.of(student[:_FIRST], teacher), same[:_FIRST])
        if not _differ(first):
            return None
        stays = bool((first == own[:_FIRST]).all())
        for share in _SHARES:
            samples = -(-student.shape[1] // share)
            part = _Part.of(student[:, :samples], teacher[:, :samples])
            columns = own if stays else _columns(part, same)
            if _differ(columns) and _proven(pair, part, columns):
                say_choice(f"nearest neurons, which all differ, are plans on {same.device.type}")
                return columns.cpu().numpy()
    return None


class _Part(NamedTuple):
    """What some samples add to the squared distances between neurons."""

    partial: Tensor
    """‖T_j‖² − 2⟨A_i, T_j⟩, d×d'."""
    student: Tensor
    """‖A_i‖², d."""
    teacher: Tensor
    """‖T_j‖², d'."""

    @staticmethod
    def of(student: Tensor, teacher: Tensor) -> "_Part":
        """Multiply all pairs, without what all neurons have in common: it cancels."""
        center = teacher.mean(0)
        left, right = student - center, teacher - center
        lengths = right.square().sum(1)
        partial = torch.addmm(lengths, left, right.T, alpha=-2)
        return _Part(partial, left.square().sum(1), lengths)


def _columns(part: _Part, same: Tensor) -> Tensor:
    """The nearest column of each row; the row's own, where the two are equal."""
    own = torch.arange(len(same), device=same.device)
    return torch.where(same, own, part.partial.argmin(1))


def _differ(columns: Tensor) -> bool:
    return int(np.bincount(columns.cpu().numpy()).max()) == 1


def _proven(pair: Scaled, part: _Part, columns: Tensor) -> bool:
    """Whether all other columns are further away, however the products were rounded."""
    chosen = (pair.student - pair.teacher[columns]).square().sum(1)
    others = part.partial.scatter_(1, columns[:, None], torch.inf).amin(1) + part.student
    epsilon = torch.finfo(part.student.dtype).eps * (pair.student.shape[1] + 4)
    rounding = 2 * epsilon * (part.student + part.teacher.max() + chosen)
    return bool(((chosen <= others - rounding) | (chosen == 0)).all())
