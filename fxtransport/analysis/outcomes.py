"""What one forward and backward pass leaves, so that two of them can be compared."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from fxtransport.errors import MODEL_ERRORS, GuardError, VerificationError, first_line
from fxtransport.example import Example
from fxtransport.process import device_of, devices_of, seed_generators
from fxtransport.tracing.error_context import error_location
from fxtransport.tracing.recorder import tensors_in

Named = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Outcome:
    """What one forward and backward pass left."""

    outputs: Named = field(default_factory=dict)
    gradients: Named = field(default_factory=dict)
    state: Named = field(default_factory=dict)
    """The buffers, and the parameters that the forward has written."""
    refused: str | None = None
    """What it raised, if it did."""
    where: str = ""
    """Where in the code it raised."""
    guarded: bool = False
    """Whether a guard of the program refused the input."""
    forward_only: str | None = None
    """Why it cannot be differentiated: it overwrites what its gradient needs."""

    def in_words(self) -> str:
        """Whether it returned, or what it raised, and where."""
        return f"raises {self.refused} (at {self.where})" if self.refused else "returns"


def outcome_of(
    model: nn.Module,
    call: Callable[[nn.Module, Any], Any],
    inputs: tuple[Any, ...],
    seed: int,
    within: AbstractContextManager[Any] | None = None,
) -> Outcome:
    """Run forward and backward, from a seed.

    Args:
        model: Given to ``call``. What it holds may change.
        call: Runs the forward, on a model and a copy of the inputs.
        inputs: The inputs; gradients are computed of those that require them.
        seed: Of the generators.
        within: The forward runs in this context.

    Raises:
        VerificationError: it returns no tensors.
    """
    leaves = {f"input {i}": x for i, x in enumerate(tensors_in(inputs)) if x.requires_grad}
    leaves |= {name: p for name, p in model.named_parameters() if p.requires_grad}
    versions = {name: p._version for name, p in model.named_parameters()}
    seed_generators(seed, devices_of(model))
    # a clone, because models may write their input
    given = tree_map_only(torch.Tensor, torch.clone, inputs)
    returned, caught = None, _Caught()
    with caught, within or nullcontext():
        returned = call(model, given)
    if caught.error is not None:
        return _refusal(caught.error)
    outputs = {str(i): t for i, t in enumerate(tensors_in(returned))}
    if not outputs:
        raise VerificationError("the model returns no tensors, so nothing can be compared")
    gradients, forward_only = _gradients(outputs, leaves, seed)
    written = [(k, p) for k, p in model.named_parameters() if p._version != versions.get(k)]
    return Outcome(
        {name: t.detach() for name, t in outputs.items()},
        gradients,
        {name: t.detach().clone() for name, t in (*model.named_buffers(), *written)},
        forward_only=forward_only,
    )


class _Caught(AbstractContextManager[None]):
    """Keeps what a forward raises, which may be of the model's own class. It is compared later."""

    error: Exception | None = None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.error = error if isinstance(error, Exception) else None
        return self.error is not None


def _refusal(error: Exception) -> Outcome:
    refused = f"{type(error).__name__}: {first_line(error)}"
    return Outcome(
        refused=refused, where=error_location(error), guarded=isinstance(error, GuardError)
    )


def _gradients(outputs: Named, leaves: Named, seed: int) -> tuple[Named, str | None]:
    """The gradients of a random function of the outputs, or why there are none."""
    differentiable = [t for t in outputs.values() if t.requires_grad]
    if not differentiable or not leaves:
        return {}, None
    generator = torch.Generator("cpu").manual_seed(seed)
    weights = [_drawn(t, generator) for t in differentiable]
    try:
        found = torch.autograd.grad(
            differentiable, list(leaves.values()), weights, allow_unused=True
        )
    except MODEL_ERRORS as error:
        return {}, first_line(error)
    named: zip[tuple[str, torch.Tensor | None]] = zip(leaves, found, strict=True)
    return {name: g for name, g in named if g is not None}, None


def draw_inputs(
    model: nn.Module, example: Example, seed: int, shape_of: Callable[[torch.Tensor], Sequence[int]]
) -> tuple[Any, ...]:
    """Inputs of an example's structure, on the model's device.

    Floating-point tensors are drawn. Integers and bools have the values that the user gave,
    repeated as often as it takes; where these are not known, they are zeros and True, which are
    an index that every table has and a mask that hides nothing.

    Args:
        model: What they are for.
        example: Their structure.
        seed: For those that are drawn.
        shape_of: From each of the example's tensors to the shape that is wanted.
    """
    generator, device = torch.Generator("cpu").manual_seed(seed), device_of(model)

    def made(x: torch.Tensor, values: torch.Tensor | None) -> torch.Tensor:
        shape = shape_of(x)
        if x.is_floating_point() or x.is_complex():
            like = torch.empty(shape, dtype=x.dtype, device=device)
            return _drawn(like, generator).requires_grad_()
        if values is not None:
            return _repeated(values, shape).to(device)
        return torch.full(shape, x.dtype == torch.bool, dtype=x.dtype, device=device)

    return example.map(made)


def _drawn(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Normal numbers of the shape, dtype and device of a tensor."""
    dtype = torch.complex64 if like.is_complex() else torch.float32
    return torch.randn(like.shape, generator=generator, dtype=dtype, device="cpu").to(like)


def _repeated(values: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Values in another shape of as many dimensions."""
    for dim, size in enumerate(shape):
        index = torch.arange(size, device="cpu") % max(1, values.shape[dim])
        values = values.index_select(dim, index)
    return values
