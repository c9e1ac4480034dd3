"""From what a user gives as ``example_inputs`` to an example on the meta device."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map_only

from fxtransport.arguments import check_arguments, in_order
from fxtransport.errors import UsageError
from fxtransport.example import Example

ExampleInputs = torch.Tensor | tuple[Any, ...] | list[Any] | dict[str, Any]
"""A tensor; a tuple or list of forward's arguments; or a dict of them by name."""

LEAST_BATCH = 2
"""Two samples at least, so that a batch is not taken for a dimension to broadcast."""

_ACCEPTED = (
    "example_inputs are a tensor, a tuple or list of forward's arguments, or a dict from the "
    "names of forward's arguments to them; each is a tensor, None, a number, a bool, a string, "
    "or a tuple, list or dict of these"
)


def example_of(
    model: nn.Module, example_inputs: Any = None, *, least_batch: int = LEAST_BATCH
) -> Example:
    """The example that a model is compiled for, on the meta device.

    Args:
        model: Whose forward takes them.
        example_inputs: See :func:`fxtransport.transportify`.
        least_batch: A smaller batch is made as large.

    Raises:
        UsageError: no example is given and the model does not say its input's size, or the
            example has no batch dimension, or is nothing that a forward can be given.
    """
    if example_inputs is None:
        size = input_size_of(model)
        if size is None:
            raise UsageError(
                f"{type(model).__name__} does not say the size of its input; "
                "give example_inputs, a tensor of shape B×…"
            )
        example_inputs = torch.empty(2, *size, device="meta", dtype=_dtype_of(model))
    names, inputs = _arguments(model, example_inputs)
    given = Example(inputs, names)
    if not any(x.dim() for x in given.tensors):
        raise UsageError(
            f"{_ACCEPTED}; at least one tensor is needed, whose first dimension is the batch, "
            f"not {_brief(example_inputs)}"
        )
    check_arguments(model, inputs, names)
    values = tuple(_values(x) for x in given.tensors)
    made = replace(given, inputs=given.resized(max(least_batch, given.batch_size), "meta"))
    return replace(made, values=values)


def input_size_of(model: nn.Module) -> tuple[int, ...] | None:
    """The input's shape without the batch, as timm models and ``input_size`` say it."""
    config = getattr(model, "pretrained_cfg", None)
    size = config.get("input_size") if isinstance(config, dict) else None
    size = getattr(model, "input_size", size)
    return tuple(size) if isinstance(size, list | tuple) else None


def _arguments(model: nn.Module, given: Any) -> tuple[tuple[str, ...] | None, tuple[Any, ...]]:
    """Forward's arguments, and their names if they are given by name."""
    if isinstance(given, torch.Tensor):
        return None, (given,)
    if isinstance(given, tuple | list):
        return None, tuple(_checked(x, f"example_inputs[{i}]") for i, x in enumerate(given))
    if isinstance(given, Mapping):
        named = {str(name): _checked(x, f"example_inputs[{name!r}]") for name, x in given.items()}
        ordered = in_order(model, named)
        return tuple(ordered), tuple(ordered.values())
    raise UsageError(f"{_ACCEPTED}, not {_brief(given)}{_remedy(given)}")


def _checked(value: Any, where: str) -> Any:
    """An argument, in plain containers.

    Raises:
        UsageError: it, or what it holds, is of a class that is not accepted.
    """
    if is_accepted(value):
        return value
    match value:
        case list():
            return [_checked(x, f"{where}[{i}]") for i, x in enumerate(value)]
        case tuple() if not hasattr(value, "_fields"):
            return tuple(_checked(x, f"{where}[{i}]") for i, x in enumerate(value))
        case dict() if all(isinstance(name, str) for name in value):
            return {name: _checked(x, f"{where}[{name!r}]") for name, x in value.items()}
    raise UsageError(f"{_ACCEPTED}; {where} is {_brief(value)}{_remedy(value)}")


def is_accepted(value: Any) -> bool:
    """Whether a value other than a container may be given to a program."""
    return value is None or isinstance(value, torch.Tensor | bool | int | float | str)


def _brief(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, bool | int | float | str | type(None)):
        return repr(value)
    if isinstance(value, tuple | list) and value and all(type(x) is int for x in value):
        return f"{value!r}; for a size, give torch.zeros{tuple(value)!r}"
    if isinstance(value, tuple | list | Mapping):
        leaves = {type(leaf).__name__ for leaf in tree_leaves(value)}
        holds = f" of {', '.join(sorted(leaves))}" if leaves else " that is empty"
        return f"a {type(value).__name__}{holds}"
    return f"a {type(value).__name__}"


def _remedy(value: Any) -> str:
    is_array = type(value).__module__ == "numpy" and hasattr(value, "shape")
    return "; give torch.as_tensor(...) of it" if is_array else ""


def _values(tensor: torch.Tensor) -> torch.Tensor | None:
    """The values of integers and bools, which index and choose, so that not all are valid."""
    if tensor.is_meta or tensor.is_floating_point() or tensor.is_complex():
        return None
    return tensor.detach().to("cpu", copy=True)


def _dtype_of(model: nn.Module) -> torch.dtype:
    floating = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(floating, torch.float32)


def on_meta(inputs: Any) -> Any:
    """Inputs of any structure, with their tensors on the meta device."""
    return tree_map_only(torch.Tensor, lambda x: x.to("meta"), inputs)
