"""Operators of torch that refuse tensors without data, and take real ones of their shape.

The kernels for the meta device were written for other hardware, or for one dtype; where they
raise, the operator is asked itself.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

_BY_VALUES = (
    torch.Tag.dynamic_output_shape,
    torch.Tag.data_dependent_output,
    torch.Tag.nondeterministic_seeded,
)
"""What an operator computes may have another shape for other values, or it draws numbers."""


def run_without_data(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operator computes of meta or fake tensors.

    Where it raises, its shapes and strides are those that it has for zeros on the CPU.

    Args:
        func: The operator.
        args: Its arguments.
        kwargs: Its keyword arguments.
    """
    try:
        return func(*args, **kwargs)
    except NotImplementedError:  # nothing is known of such an operator
        raise
    except RuntimeError:
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        if not given or not _depends_on_shapes(func):
            raise
        try:
            real = _of_zeros(func, args, kwargs)
        except RuntimeError:
            real = None  # the model raises, too: what it was told first is what counts
        if real is None:
            raise
    device = given[0].device
    return tree_map_only(torch.Tensor, lambda t: _without_data(t, device), real)


def _depends_on_shapes(func: Any) -> bool:
    if func.namespace != "aten":
        return False  # only torch's own operators say for certain what they depend on
    schema = func._schema
    aliases = schema.is_mutable or any(r.alias_info is not None for r in schema.returns)
    return not aliases and not any(tag in func.tags for tag in _BY_VALUES)


def _of_zeros(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    with _disable_current_modes(), torch.no_grad():
        zeros, named = tree_map_only(torch.Tensor, _zeros_like, (args, kwargs))
        if "device" in named:
            named["device"] = torch.device("cpu")
        return func(*zeros, **named)


def _zeros_like(tensor: torch.Tensor) -> torch.Tensor:
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    count = 1 + sum((size - 1) * stride for size, stride in steps) if tensor.numel() else 0
    memory = torch.zeros(count, dtype=tensor.dtype, device="cpu")
    return memory.as_strided(tensor.shape, tensor.stride())


def _without_data(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
