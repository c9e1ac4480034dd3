"""The inputs that a model is compiled for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Example:
    """The inputs that a model is compiled for, tensors on the meta device.

    The batch is the first dimension of the first tensor that has dimensions, and of every
    other tensor whose first dimension is as long. It may differ later; other dimensions may
    where the model itself allows it.
    """

    inputs: tuple[Any, ...]
    """One for each argument that is given: a tensor, None, a number, a bool, a string, or
    tuples, lists and dicts of these."""
    names: tuple[str, ...] | None = None
    """The names of forward's arguments, one for each input; None where they are positional."""
    values: tuple[torch.Tensor | None, ...] = field(default=(), compare=False, repr=False)
    """For each of ``tensors``, the values that the user gave, where they are known and are
    integers or bools. None or missing for others."""

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All tensors in the inputs, in order."""
        import torch
        from torch.utils._pytree import tree_leaves

        return tuple(x for x in tree_leaves(self.inputs) if isinstance(x, torch.Tensor))

    @property
    def batch_size(self) -> int:
        """The first dimension of the first tensor that has dimensions."""
        return next(x.shape[0] for x in self.tensors if x.dim())

    def is_batch(self, tensor: torch.Tensor) -> bool:
        """Whether the first dimension of one of the inputs' tensors is the batch."""
        return tensor.dim() > 0 and tensor.shape[0] == self.batch_size

    def call(self, function: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        """Call a model, or its forward, with inputs of this structure."""
        if self.names is None:
            return function(*inputs)
        return function(**dict(zip(self.names, inputs, strict=True)))

    def map(self, change: Callable[[torch.Tensor, torch.Tensor | None], Any]) -> tuple[Any, ...]:
        """Inputs of this structure.

        Args:
            change: From each tensor, and its known values or None, to what takes its place.
        """
        import torch
        from torch.utils._pytree import tree_map_only

        values: Iterator[torch.Tensor | None] = iter(self.values or (None,) * len(self.tensors))
        changed: tuple[Any, ...] = tree_map_only(
            torch.Tensor, lambda x: change(x, next(values)), self.inputs
        )
        return changed

    def resized(self, batch_size: int, device: torch.device | str) -> tuple[Any, ...]:
        """Uninitialized inputs of another batch size."""
        import torch

        def empty(x: torch.Tensor, _: torch.Tensor | None) -> torch.Tensor:
            shape = (batch_size, *x.shape[1:]) if self.is_batch(x) else x.shape
            return torch.empty(shape, dtype=x.dtype, device=device)

        return self.map(empty)

    def with_size(self, *size: int) -> Example:
        """The example with other sizes of the last dimensions of its tensors."""
        inputs = self.map(lambda x, _: x.new_empty(*x.shape[: -len(size)], *size))
        return replace(self, inputs=inputs)

    def described(self) -> tuple[Mapping[str, Any], ...]:
        """The inputs as values of JSON, from which :func:`example_from` makes them again."""
        found = []
        for i, x in enumerate(self.inputs):
            name = {} if self.names is None else {"name": self.names[i]}
            found.append({**name, **_described(x, self.batch_size)})
        return tuple(found)


def example_from(described: Sequence[Mapping[str, Any]]) -> Example:
    """The example that :meth:`Example.described` described.

    Raises:
        ValueError: this describes none.
    """
    inputs = tuple(_input(entry) for entry in described)
    names = [entry.get("name") for entry in described]
    if not any(names):
        example = Example(inputs)
    elif all(isinstance(name, str) for name in names):
        example = Example(inputs, tuple(map(str, names)))
    else:
        raise ValueError(f"{names} are not names of arguments")
    if not any(x.dim() for x in example.tensors):
        raise ValueError("no input has a batch")
    return example


_USUAL_BATCH = 2
"""The batch size of a tensor that is described without one."""


def _described(value: Any, batch_size: int) -> dict[str, Any]:
    import torch

    match value:
        case torch.Tensor():
            dtype = str(value.dtype).removeprefix("torch.")
            if value.dim() == 0 or value.shape[0] != batch_size:
                return {"shape": list(value.shape), "dtype": dtype, "batch": None}
            batch = {} if batch_size == _USUAL_BATCH else {"batch": batch_size}
            return {"shape": list(value.shape[1:]), "dtype": dtype, **batch}
        case dict():
            return {"dict": {name: _described(x, batch_size) for name, x in value.items()}}
        case tuple() | list():
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [_described(x, batch_size) for x in value]}
    return {"value": value}


def _input(entry: Any) -> Any:
    import torch

    match entry:
        case {"shape": [*shape], "dtype": str(dtype_name)}:
            batch = entry.get("batch", _USUAL_BATCH)
            sizes = shape if batch is None else [batch, *shape]
            dtype = getattr(torch, dtype_name, None)
            if isinstance(dtype, torch.dtype) and all(type(n) is int and n > 0 for n in sizes):
                return torch.empty(sizes, dtype=dtype, device="meta")
        case {"dict": dict(entries)}:
            return {name: _input(x) for name, x in entries.items()}
        case {"tuple": [*entries]}:
            return tuple(map(_input, entries))
        case {"list": [*entries]}:
            return list(map(_input, entries))
        case {"value": None | bool() | int() | float() | str() as value}:
            return value
    raise ValueError(f"{entry!r} does not describe an input")
