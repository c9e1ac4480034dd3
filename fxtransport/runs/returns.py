"""What models return that cannot be compiled and do not classify."""

from collections.abc import Mapping
from typing import Any

import torch

from fxtransport.errors import MODEL_ERRORS, TraceError, UsageError
from fxtransport.randomness import fork_rng
from fxtransport.submodule import Target

BOXES = "boxes"
"""What torchvision's detectors call the places that they find."""


def refuse_boxes(target: Target, error: TraceError) -> None:
    """Raise a UsageError if a model that cannot be compiled finds boxes, as detectors do.

    Args:
        target: The model, with its weights, and an example of its input.
        error: Why it cannot be compiled.
    """
    model = target.model
    mode = model.training
    try:
        with torch.no_grad(), fork_rng(0):
            found = model.eval()(*target.example.resized(1, "cpu"))
    except MODEL_ERRORS:
        # what it returns is not known, and the error of the compiler stands
        return
    finally:
        model.train(mode)
    names = _names(found)
    if BOXES in names:
        raise UsageError(
            f"{target.name} returns {', '.join(names)} of what it finds in an image, as detectors "
            "do, and not one number for each class: choose a classifier"
        ) from error


def _names(found: Any) -> tuple[str, ...]:
    """The names of the tensors that are returned for the first image."""
    first = found[0] if isinstance(found, list | tuple) and found else found
    return tuple(map(str, first)) if isinstance(first, Mapping) else ()
