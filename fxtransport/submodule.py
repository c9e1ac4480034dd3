"""What of a model is compiled: the whole, or a submodule for what the whole gives it.

Where a model cannot be one graph, such as a detector that selects boxes by their scores, its
backbone often can.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from fxtransport.arguments import by_name
from fxtransport.errors import MODEL_ERRORS, TraceError, UsageError, first_line
from fxtransport.example import Example
from fxtransport.example_inputs import example_of, is_accepted, on_meta
from fxtransport.models import submodule_of
from fxtransport.origin import Origin
from fxtransport.process import preserve_process
from fxtransport.tracing.shadow import shadow_of

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
    model: nn.Module, example: Example | None, path: str, size: tuple[int, ...] | None = None
) -> Target:
    """A submodule, with the example that the model's forward gives it.

    Some models only resize an image before the submodule, as detectors do. Then the submodule
    is compiled for the image itself, if it takes that: its size is what the user chose.

    Args:
        model: The whole model.
        example: For the whole; None where the size is given.
        path: The submodule's.
        size: The shape of the submodule's input, without the batch dimension. If it is given,
            the whole model is not run.

    Raises:
        ModelNameError: the model has no such submodule.
        UsageError: the forward does not reach it, or gives it something other than tensors.

    >>> from torchvision.models import resnet18
    >>> whole = Example((torch.empty(2, 3, 64, 64),))
    >>> target = open_submodule(resnet18(), whole, "layer2")
    >>> target.example.inputs[0].shape
    torch.Size([2, 64, 16, 16])
    """
    submodule = submodule_of(model, path)
    if size is not None:
        own = example_of(submodule, torch.empty(2, *size, device="meta"))
        return Target(submodule, own, path)
    assert example is not None, "either an example of the whole or a size is given"
    found = example_of(submodule, _inputs_of(model, example, path))
    if _is_resized(found.tensors, example.tensors) and takes(submodule, example):
        found = example
    return Target(submodule, found, path)


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
        backbone = open_submodule(target.model, target.example, BACKBONE)
    except UsageError as error:
        raise refusal from error
    origin = target.origin and target.origin.at(BACKBONE)
    try:
        return work(replace(backbone, origin=origin, refusal=refusal))
    except TraceError as error:
        raise refusal from error


def takes(model: nn.Module, example: Example) -> bool:
    """Whether the forward pass accepts inputs, in both modes; only shapes matter."""
    shadow, inputs = shadow_of(model), on_meta(example.inputs)
    try:
        with preserve_process(model), torch.no_grad(), torch.device("meta"):
            for training in (True, False):
                example.call(shadow.train(training), inputs)
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


def _inputs_of(model: nn.Module, example: Example, path: str) -> list[Any] | dict[str, Any]:
    """The arguments that a submodule is given in its first call, by name if it is so called."""
    shadow = shadow_of(model)
    found: list[Any] | dict[str, Any] = []

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NoReturn:
        nonlocal found
        found = by_name(module, args, kwargs) if kwargs else list(args)
        raise _ReachedError

    shadow.get_submodule(path).register_forward_pre_hook(stop, with_kwargs=True)
    why = "does not reach it"
    try:
        with preserve_process(model), torch.no_grad(), torch.device("meta"):
            example.call(shadow, on_meta(example.inputs))
    except _ReachedError:
        why = ""
    except MODEL_ERRORS as error:
        why = f"raises {type(error).__name__} before it: {first_line(error)}"
    foreign = [type(x).__name__ for x in tree_leaves(found) if not is_accepted(x)]
    if not why and foreign:
        why = f"gives it {', '.join(foreign)}, and a program takes tensors"
    if why:
        raise UsageError(
            f"cannot compile {path} of {type(model).__name__}: the forward pass {why}; choose "
            "another submodule, or give input_size, the size of its input"
        )
    return found
