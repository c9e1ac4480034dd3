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
"""Neurons whose nearest ones tell whether to look at all."""
_SHARES = (4, 1)
"""A quarter of the samples mostly proves it; then all are tried."""
_FEWEST = 16
"""Samples that tell neurons apart: of fewer, ReLUs are often 0 on all."""


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
        every = pair.student.shape[1]
        for share in _SHARES:
            part = _Part.of(pair, min(every, max(_FEWEST, every // share)))
            columns = _guess(pair, part)
            if columns is None:
                return None
            if _proven(pair, part, columns):
                say_choice(f"nearest neurons, which all differ, are plans on {columns.device.type}")
                return columns.cpu().numpy()
    return None


class _Part(NamedTuple):
    """Some samples, without what all neurons have in common: it cancels in distances."""

    student: Tensor
    """d×samples."""
    teacher: Tensor
    """d×samples."""
    lengths: Tensor
    """The squares of the teacher's neurons, d."""

    @staticmethod
    def of(pair: Scaled, samples: int) -> "_Part":
        """The first samples."""
        student, teacher = pair.student[:, :samples], pair.teacher[:, :samples]
        center = teacher.mean(0)
        right = teacher - center
        return _Part(student - center, right, right.square().sum(1))

    def products(self, rows: int) -> Tensor:
        """‖T_j‖² − 2⟨A_i, T_j⟩ for the first rows: squared distances, but for ‖A_i‖²."""
        return torch.addmm(self.lengths, self.student[:rows], self.teacher.T, alpha=-2)


def _guess(pair: Scaled, part: _Part) -> Tensor | None:
    """The nearest columns by a part of the samples; None where two rows have the same.

    Where the first rows have their own, all are taken to. Of columns that are equal, dead neurons
    say, a row that is equal to them has its own.
    """
    count = len(part.student)
    own = torch.arange(count, device=part.student.device)
    first = part.products(_FIRST).argmin(1)
    if bool((first == own[:_FIRST]).all()):
        return own
    same = (pair.student == pair.teacher).all(1)
    if not _differ(torch.where(same[:_FIRST], own[:_FIRST], first)):
        return None
    columns = torch.where(same, own, part.products(count).argmin(1))
    return columns if _differ(columns) else None


def _differ(columns: Tensor) -> bool:
    return int(np.bincount(columns.cpu().numpy()).max()) == 1


def _proven(pair: Scaled, part: _Part, columns: Tensor) -> bool:
    """Whether all other columns are further away, however the products were rounded."""
    chosen = (pair.student - pair.teacher[columns]).square().sum(1)
    lengths = part.student.square().sum(1)
    products = part.products(len(lengths)).scatter_(1, columns[:, None], torch.inf)
    others = products.amin(1) + lengths
    epsilon = torch.finfo(lengths.dtype).eps * (pair.student.shape[1] + 4)
    rounding = 2 * epsilon * (lengths + part.lengths.max() + chosen)
    return bool(((chosen <= others - rounding) | (chosen == 0)).all())
