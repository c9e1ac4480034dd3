"""The transport cost of a residual block."""

from dataclasses import dataclass, fields
from typing import get_args

import torch

from fxtransport.errors import UsageError
from fxtransport.ir import TAPPED_KINDS, Kind
from fxtransport.residue import (
    Postponed,
    Reduction,
    Residue,
    costs_of,
    is_plain_formula,
    postpone,
    power_cost,
)

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
        norms_alone: Of a branch that ends in a batch norm in train mode, let C have a gradient by
            the norm's parameters alone. On the layers before it C acts only through ε: along the
            normalized input, ε/(var + ε) of the gradient passes through the norm. To leave that
            out saves a pass over what each norm was given. Not under ``torch.compile``, where
            nothing is left out. Only with p = 2 and branches.

    Raises:
        UsageError: an option is not valid.
    """

    p: float = 2.0
    reduction: Reduction = "mean"
    residue: str = "branch"
    kinds: tuple[str, ...] = TAPPED_KINDS
    norms_alone: bool = False

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
        if self.norms_alone and (self.p != 2 or self.residue != "branch"):
            raise UsageError(
                "norms_alone is for p=2 and residue='branch', which follow from a batch norm's "
                f"parameters, not for p={self.p:g} and residue={self.residue!r}"
            )

    def __repr__(self) -> str:
        # runs are compared by this text, also those from before there was norms_alone
        shown = [field.name for field in fields(self) if field.name != "norms_alone"]
        shown += ["norms_alone"] if self.norms_alone else []
        return f"TransportCost({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def __call__(self, residue: Residue) -> torch.Tensor | None:
        """The cost of a block, a scalar, in float32 at least; None if it is not penalized."""
        if residue.kind not in self.kinds:
            return None
        if self.residue == "branch":
            if self.norms_alone and not is_plain_formula():
                postponed = postpone(residue, self.reduction, norms_alone=True)
                if postponed is not None:
                    costs: torch.Tensor = costs_of([postponed], ())
                    return costs[0]
            return power_cost(residue.branch, self.p, self.reduction, residue.branch_source)
        if residue.kind is not Kind.IDENTITY:
            return None
        displacement, source = residue.displacement, residue.displacement_source
        return power_cost(displacement, self.p, self.reduction, source)

    def later(self, residue: Residue) -> torch.Tensor | Postponed | None:
        """The same, or what it follows from where that is computed for several blocks at once."""
        postponed = None
        if residue.kind in self.kinds and self.residue == "branch" and self.p == 2:
            postponed = postpone(residue, self.reduction, norms_alone=self.norms_alone)
        return self(residue) if postponed is None else postponed
