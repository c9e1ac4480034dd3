"""Compile a submodule of a model, for what the whole gives it.

Of a model that cannot be one graph, such as a detector that selects boxes by their scores,
the backbone often can.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

import torch
from torch import nn

from fxtransport.compiler import example_of
from fxtransport.errors import MODEL_ERRORS, TraceError, UsageError, first_line
from fxtransport.models import submodule_of
from fxtransport.tracing.shadow import shadow_of
from fxtransport.unit import Example

Result = TypeVar("Result")

BACKBONE = "backbone"
"""What torchvision calls the part of a detector that computes features."""


@dataclass(frozen=True)
class Target:
    """What of a model is compiled."""

    model: nn.Module
    example: Example
    path: str = ""
    """Where it is in the whole; ``""`` for the whole itself."""
    refusal: TraceError | None = None
    """Why the whole cannot be compiled; None if it can, or was not asked for."""


def part_of(
    model: nn.Module, inputs: Sequence[torch.Tensor], path: str, size: tuple[int, ...] | None = None
) -> Target:
    """A submodule, with the example that the model's forward gives it.

    Where a model only changes the size of an image first, as detectors do, the image itself
    is taken if it fits: its size is what the user chose.

    Args:
        model: The whole.
        inputs: An example for the whole; only shapes matter.
        path: The submodule's.
        size: The shape of what the submodule is given, without the batch, if the model's
            forward is not to tell.

    Raises:
        ModelNameError: the model has no such submodule.
        UsageError: the forward does not come to it, or gives it something else than tensors.

    >>> from torchvision.models import resnet18
    >>> part = part_of(resnet18(), [torch.empty(2, 3, 64, 64)], "layer2")
    >>> part.example.inputs[0].shape
    torch.Size([2, 64, 16, 16])
    """
    part = submodule_of(model, path)
    if size is not None:
        return Target(part, example_of(part, torch.empty(2, *size, device="meta")), path)
    given = _given(model, inputs, path)
    if _is_resized(given, inputs) and takes(part, inputs):
        given = tuple(inputs)
    return Target(part, example_of(part, given), path)


def whole_or_backbone(whole: Target, work: Callable[[Target], Result]) -> Result:
    """Do something with a model, or with its backbone where the whole cannot be one graph.

    Args:
        whole: The model.
        work: Is called with the whole; and if that raises TraceError, and the model has a
            submodule ``backbone``, with that.

    Raises:
        TraceError: neither can be one graph.
    """
    try:
        return work(whole)
    except TraceError as error:
        if not isinstance(getattr(whole.model, BACKBONE, None), nn.Module):
            raise
        refusal = error
    try:
        part = part_of(whole.model, whole.example.inputs, BACKBONE)
    except UsageError as error:
        raise refusal from error
    try:
        return work(replace(part, refusal=refusal))
    except TraceError as error:
        raise refusal from error


def takes(model: nn.Module, inputs: Sequence[torch.Tensor]) -> bool:
    """Whether a forward pass in both modes runs through; only shapes matter."""
    shadow = shadow_of(model)
    try:
        with torch.no_grad(), torch.device("meta"):
            for training in (True, False):
                shadow.train(training)(*(x.to("meta") for x in inputs))
    except MODEL_ERRORS:
        return False
    return True


def _is_resized(found: Sequence[torch.Tensor], image: Sequence[torch.Tensor]) -> bool:
    """Whether one is the other in another height and width."""
    if len(found) != 1 or len(image) != 1 or found[0].dim() != 4 or image[0].dim() != 4:
        return False
    return found[0].shape[:2] == image[0].shape[:2]


class _ReachedError(Exception):
    """Ends a forward pass where it comes to the submodule."""


def _given(model: nn.Module, inputs: Sequence[torch.Tensor], path: str) -> tuple[torch.Tensor, ...]:
    """The tensors that a submodule is given first."""
    shadow = shadow_of(model)
    found: list[Any] = []

    def stop(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NoReturn:
        found.extend((*args, *kwargs.values()))
        raise _ReachedError

    shadow.get_submodule(path).register_forward_pre_hook(stop, with_kwargs=True)
    why = "does not come to it"
    try:
        with torch.no_grad(), torch.device("meta"):
            shadow(*(x.to("meta") for x in inputs))
    except _ReachedError:
        why = ""
    except MODEL_ERRORS as error:
        why = f"raises {type(error).__name__} before: {first_line(error)}"
    if not why and not all(isinstance(x, torch.Tensor) for x in found):
        why = f"gives it {', '.join(type(x).__name__ for x in found)}, and a program takes tensors"
    if why:
        raise UsageError(
            f"cannot compile {path} of {type(model).__name__}: the forward pass {why}; choose "
            "another submodule, or give the size of its input (--input-size)"
        )
    return tuple(found)
