"""Modules that others wrote, small and with random weights, by library.

Each file yields the cases of one library, or of one sort of its models. Beside its cases it has
``RESIDUALS``, how many residual additions a model has, counted by reading its code; ``REFUSED``,
why a model cannot be one graph; and ``GUARDED``, why a model takes another path at another batch
size.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

LIBRARIES = {
    "transformers": (
        "transformers_text transformers_decoders transformers_pairs transformers_vision "
        "transformers_backbones transformers_audio"
    ).split(),
    "diffusers": ["diffusers_models"],
    "monai": ["monai_nets"],
    "segmentation_models_pytorch": ["smp_models"],
    "vit_pytorch": ["vit_pytorch_models"],
    "x_transformers": ["x_transformers_models"],
    "open_clip": ["open_clip_towers"],
    "pytorchcv": ["pytorchcv_models"],
    "torch": ["torch_modules", "torch_models"],
}
"""The files of each library, which is named as it is imported."""


@dataclass(frozen=True)
class Case:
    """A module and what it is called with."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Any]
    """What forward is given at a batch size: a tensor, a tuple of tensors, or a dict by name."""


@dataclass(frozen=True)
class Library:
    """The cases of a library, and what is known of them."""

    name: str
    cases: dict[str, Case]
    residuals: dict[str, int]
    """How many additions have residues that a program returns."""
    refused: dict[str, str]
    guarded: dict[str, str]


def installed() -> list[str]:
    """The libraries that can be imported; torch's own tests need expecttest."""
    needed = {name: "expecttest" if name == "torch" else name for name in LIBRARIES}
    return [name for name in LIBRARIES if find_spec(needed[name]) is not None]


def library(name: str) -> Library:
    """The cases of a library that is installed."""
    found = Library(name, {}, {}, {}, {})
    for file in LIBRARIES[name]:
        module = importlib.import_module(f"foreign_modules.{file}")
        cases: Iterator[Case] = module.cases()
        for case in cases:
            if case.name in found.cases:
                raise ValueError(f"two cases of {name} are named {case.name}")
            found.cases[case.name] = case
        found.residuals.update(getattr(module, "RESIDUALS", {}))
        found.refused.update(getattr(module, "REFUSED", {}))
        found.guarded.update(getattr(module, "GUARDED", {}))
    return found


def images(size: int = 32, channels: int = 3) -> Callable[[int], torch.Tensor]:
    """Square images."""
    return lambda batch: torch.randn(batch, channels, size, size)


def tensors(*shapes: tuple[int, ...]) -> Callable[[int], Any]:
    """Several tensors, whose shapes are given without the batch."""
    return lambda batch: tuple(torch.randn(batch, *shape) for shape in shapes)


def tokens(length: int = 12, count: int = 99) -> Callable[[int], torch.Tensor]:
    """Token numbers, none of which is one of the first four, which may have a meaning."""
    return lambda batch: torch.randint(4, count, (batch, length))
