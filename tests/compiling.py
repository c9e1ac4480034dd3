"""What tests of the compiler share: compile a small model, run it, compare every bit."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fxtransport import Program, transportify
from fxtransport.lowered import Lowered
from fxtransport.passes.base import Pass
from fxtransport.passes.lower import Lower
from fxtransport.passes.partition import Partition
from fxtransport.passes.pipeline import run_passes
from fxtransport.passes.taps import TapResidues
from fxtransport.unit import Example, Unit
from tests.networks import IMAGES

Call = Callable[..., Any]
"""A function of a model and its inputs."""


def unit_of(model: nn.Module, *shape: int, dtype: torch.dtype = torch.float32) -> Unit:
    """A model and a batch of two for example; the shape is one sample's."""
    return Unit(model, Example((torch.empty(2, *shape, dtype=dtype, device="meta"),)))


def run_on(model: nn.Module, shape: tuple[int, ...], *passes: Pass) -> Unit:
    """Run passes, and what they require, on a model."""
    return run_passes(unit_of(model, *shape), passes)


def compiled(model: nn.Module, *shape: int, modules: int = 1) -> Unit:
    """A model cut, tapped and lowered."""
    return run_on(model, shape, Partition(modules), TapResidues(), Lower())


def cut(net: nn.Module, modules: int = 3) -> Program:
    """A program of the small network, whose second part holds ``blocks`` in part."""
    return transportify(net, IMAGES, modules=modules)


def hidden_before(program: Program, index: int, images: torch.Tensor) -> Any:
    """What a part is given."""
    hidden: Any = images
    for part in program.parts[:index]:
        hidden = part(hidden).hidden
    return hidden.detach()


def forward(unit: Unit) -> Call:
    """The lowered forward."""
    return unit.fact(Lowered).forward.call


def transport(unit: Unit) -> Call:
    """The lowered forward that returns the output and the residues."""
    whole = unit.fact(Lowered).whole.function

    def call(model: nn.Module, *inputs: torch.Tensor) -> Any:
        return whole.call(model, *inputs, lambda residue: residue.branch)

    return call


def original(model: nn.Module, *inputs: torch.Tensor) -> Any:
    """What the model itself returns."""
    return model(*inputs)


def outcome(
    call: Call, model: nn.Module, *inputs: torch.Tensor, training: bool, seed: int = 0
) -> tuple[Any, dict[str, torch.Tensor]]:
    """What a function returns on a copy of a model, and the copy's buffers after it."""
    fresh = copy.deepcopy(model).train(training)
    torch.manual_seed(seed)
    returned = call(fresh, *(x.clone() for x in inputs))
    return returned, dict(fresh.named_buffers())


def assert_identical(found: Any, expected: Any) -> None:
    """Assert that tensors, or containers of them, are equal bit for bit."""
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
