"""The transport cost of a residual block."""

from dataclasses import dataclass
from typing import get_args

import torch

from fxtransport.errors import UsageError
from fxtransport.ir import TAPPED_KINDS, Kind
from fxtransport.residue import Postponed, Reduction, Residue, postpone, power_cost

_RESIDUES = ("branch", "displacement")


@dataclass(frozen=True)
class TransportCost:
    """C_m = ‖r_m‖^p of one residual block (LAP 5.3; THESIS 3.4).

    The transport cost of a network, or of a part, is the sum over its blocks.

    Args:
        p: The power, at least 1; 2 makes it the kinetic energy (THESIS 4.6 for others).
        reduction: ``mean``: of |r|^p over batch, channels and positions, as the authors'
            released code does, which makes multipliers comparable between shapes. ``sum``: of
            |r|^p over channels and positions, averaged over the batch, as in the text.
        residue: ``branch``: what is added to the skip. ``displacement``: x_{m+1} - x_m,
            after the activation if one follows the addition (THESIS 3.5.1). Only blocks
            whose skip is x_m itself have one; others then cost nothing.
        kinds: The kinds of blocks that are penalized. ``("identity",)`` leaves out the
            transitions between stages, as in BLOCK's text.

    Raises:
        UsageError: an option is not valid.
    """

    p: float = 2.0
    reduction: Reduction = "mean"
    residue: str = "branch"
    kinds: tuple[str, ...] = TAPPED_KINDS

    def __post_init__(self) -> None:
        if not 1 <= self.p < float("inf"):
            raise UsageError(f"p must be a number of at least 1, not {self.p}")
        if self.reduction not in get_args(Reduction):
            raise UsageError(f"reduction must be 'mean' or 'sum', not {self.reduction!r}")
        if self.residue not in _RESIDUES:
            raise UsageError(f"residue must be 'branch' or 'displacement', not {self.residue!r}")
        known = [str(kind) for kind in TAPPED_KINDS]
        for kind in self.kinds:
            if kind not in known:
                raise UsageError(f"kinds must be from {', '.join(known)}, not {kind!r}")
        if not self.kinds:
            raise UsageError("kinds is empty; give at least one kind, such as ('identity',)")

    def __call__(self, residue: Residue) -> torch.Tensor | None:
        """The cost of a block, a scalar, in float32 at least; None if it is not penalized."""
        if residue.kind not in self.kinds:
            return None
        if self.residue == "branch":
            return power_cost(residue.branch, self.p, self.reduction, residue.branch_source)
        if residue.kind is not Kind.IDENTITY:
            return None
        displacement, source = residue.displacement, residue.displacement_source
        return power_cost(displacement, self.p, self.reduction, source)

    def later(self, residue: Residue) -> torch.Tensor | Postponed | None:
        """The same, or what it follows from where that is computed for several blocks at once."""
        postponed = None
        if residue.kind in self.kinds and self.residue == "branch" and self.p == 2:
            postponed = postpone(residue, self.reduction)
        return self(residue) if postponed is None else postponed
