"""What of a model is compiled: the whole, or a submodule for what the whole gives it.

Where a model cannot be one graph, such as a detector that selects boxes by their scores, its
backbone often can.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

import torch
from torch import nn

from fxtransport.compiler import example_of
from fxtransport.errors import MODEL_ERRORS, TraceError, UsageError, first_line
from fxtransport.models import submodule_of
from fxtransport.origin import Origin
from fxtransport.tracing.shadow import shadow_of
from fxtransport.unit import Example

Result = TypeVar("Result")

BACKBONE = "backbone"
"""What torchvision calls the part of a detector that computes features."""


@dataclass(frozen=True)
class Target:
    """What is compiled: a model or a submodule of one, for an example."""

    model: nn.Module
    example: Example
    path: str = ""
    """Its path in the whole model; ``""`` for the whole itself."""
    origin: Origin | None = None
    """From which name it was built, if from one."""
    refusal: TraceError | None = None
    """Why the whole cannot be compiled; None if it can, or nobody asked."""

    @property
    def name(self) -> str:
        """The canonical name, or the class where there is none."""
        return type(self.model).__name__ if self.origin is None else self.origin.model


def open_submodule(
    model: nn.Module, inputs: Sequence[torch.Tensor], path: str, size: tuple[int, ...] | None = None
) -> Target:
    """A submodule, with the example that the model's forward gives it.

    Some models only resize an image before the submodule, as detectors do. Then the submodule
    is compiled for the image itself, if it takes that: its size is what the user chose.

    Args:
        model: The whole model.
        inputs: An example for the whole; only shapes matter.
        path: The submodule's.
        size: The shape of the submodule's input, without the batch dimension. If it is given,
            the whole model is not run.

    Raises:
        ModelNameError: the model has no such submodule.
        UsageError: the forward does not reach it, or gives it something other than tensors.

    >>> from torchvision.models import resnet18
    >>> target = open_submodule(resnet18(), [torch.empty(2, 3, 64, 64)], "layer2")
    >>> target.example.inputs[0].shape
    torch.Size([2, 64, 16, 16])
    """
    submodule = submodule_of(model, path)
    if size is not None:
        example = example_of(submodule, torch.empty(2, *size, device="meta"))
        return Target(submodule, example, path)
    found = _inputs_of(model, inputs, path)
    if _is_resized(found, inputs) and takes(submodule, inputs):
        found = tuple(inputs)
    return Target(submodule, example_of(submodule, found), path)


def whole_or_backbone(target: Target, work: Callable[[Target], Result]) -> Result:
    """Do something with a target, or with its backbone where the whole cannot be one graph.

    Args:
        target: What is compiled.
        work: Is called with it. If that raises TraceError, and the target is a whole model with
            a submodule ``backbone``, it is called with that.

    Raises:
        TraceError: neither can be one graph.
    """
    try:
        return work(target)
    except TraceError as error:
        if target.path or not isinstance(getattr(target.model, BACKBONE, None), nn.Module):
            raise
        refusal = error
    try:
        backbone = open_submodule(target.model, target.example.inputs, BACKBONE)
    except UsageError as error:
        raise refusal from error
    origin = target.origin and target.origin.at(BACKBONE)
    try:
        return work(replace(backbone, origin=origin, refusal=refusal))
    except TraceError as error:
        raise refusal from error


def takes(model: nn.Module, inputs: Sequence[torch.Tensor]) -> bool:
    """Whether the forward pass accepts inputs, in both modes; only shapes matter."""
    shadow = shadow_of(model)
    try:
        with torch.no_grad(), torch.device("meta"):
            for training in (True, False):
                shadow.train(training)(*(x.to("meta") for x in inputs))
    except MODEL_ERRORS:
        return False
    return True


def _is_resized(found: Sequence[torch.Tensor], image: Sequence[torch.Tensor]) -> bool:
    """Whether the only difference between two images is their height and width."""
    if len(found) != 1 or len(image) != 1 or found[0].dim() != 4 or image[0].dim() != 4:
        return False
    return found[0].shape[:2] == image[0].shape[:2]


class _ReachedError(Exception):
    """Ends a forward pass where it reaches the submodule."""


def _inputs_of(
    model: nn.Module, inputs: Sequence[torch.Tensor], path: str
) -> tuple[torch.Tensor, ...]:
    """The tensors that a submodule is given in its first call."""
    shadow = shadow_of(model)
    found: list[Any] = []

    def stop(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NoReturn:
        found.extend((*args, *kwargs.values()))
        raise _ReachedError

    shadow.get_submodule(path).register_forward_pre_hook(stop, with_kwargs=True)
    why = "does not reach it"
    try:
        with torch.no_grad(), torch.device("meta"):
            shadow(*(x.to("meta") for x in inputs))
    except _ReachedError:
        why = ""
    except MODEL_ERRORS as error:
        why = f"raises {type(error).__name__} before it: {first_line(error)}"
    if not why and not all(isinstance(x, torch.Tensor) for x in found):
        why = f"gives it {', '.join(type(x).__name__ for x in found)}, and a program takes tensors"
    if why:
        raise UsageError(
            f"cannot compile {path} of {type(model).__name__}: the forward pass {why}; choose "
            "another submodule, or give input_size, the size of its input"
        )
    return tuple(found)
