"""Transport costs as the papers write them."""

from torch import Tensor


def formula(residue: Tensor, p: float, reduction: str) -> Tensor:
    """The p-th powers of a residue, B×…, reduced to a scalar."""
    powers = residue.abs() ** p
    return powers.mean() if reduction == "mean" else powers.flatten(1).sum(1).mean()
