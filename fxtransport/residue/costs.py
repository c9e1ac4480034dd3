"""What a measure returned of each residual block, put together."""

from collections.abc import Sequence
from typing import Any

import torch

from fxtransport.residue.together import Postponed, together


def costs_of(values: Sequence[Any], like: Any) -> Any:
    """What was measured, put together: see :attr:`fxtransport.PartOutput.costs`.

    Args:
        values: What the measure returned, in execution order; beside scalars also costs that it has
            postponed.
        like: Tensors on whose device an empty result is.
    """
    if not values:
        first = next((x for x in like if isinstance(x, torch.Tensor)), None)
        return torch.zeros(0, device=None if first is None else first.device)
    if any(isinstance(value, Postponed) for value in values):
        return together(values)
    if values[0].dim() < 2 and all(_is_same_size(v, values[0]) for v in values):
        return torch.stack(list(values), dim=-1)
    return tuple(values)


def _is_same_size(value: torch.Tensor, other: torch.Tensor) -> bool:
    if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        # sizes are tensors there, and decisions on them raise warnings
        return value.is_same_size(other)
    return value.shape == other.shape
