"""What the blocks of a program make of samples: a neuron is its activations on them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fxtransport.errors import UsageError
from fxtransport.modes import eval_mode
from fxtransport.objectives.neurons import activations_of
from fxtransport.outputs import find_logits
from fxtransport.program import Program
from fxtransport.residue import Residue

OUTPUT = "output"
"""The name of what the whole network returns."""


@dataclass(frozen=True, eq=False)
class Representation:
    """What one layer makes of n samples.

    Attributes:
        path: The path of the module that adds, of a residual block; or ``output``.
        neurons: d×n, float32 at least: channels, averaged over positions.
    """

    path: str
    neurons: Tensor


def representations(program: Program, batches: Iterable[Any]) -> tuple[Representation, ...]:
    """The representations after each block, and the output, in execution order.

    In eval mode, without gradients. Blocks are those whose residues are tapped: residual
    blocks of any kind; in a model without additions, its equal-dimension layers.

    Args:
        program: The program.
        batches: Inputs of the model, batch by batch.

    Raises:
        UsageError: there is nothing to compare, or a block does not keep samples apart.
    """
    paths = _distinct(block.path for block in program.facts.blocks)
    found: list[list[Tensor]] = []
    with eval_mode(program), torch.no_grad():
        for inputs in batches:
            given = inputs if isinstance(inputs, tuple) else (inputs,)
            outputs = _Outputs(program, len(given[0]))
            returned, _ = program(*given, measure=outputs)
            found.append([*outputs.found, *_logits(returned, len(given[0]))])
    if not found or not found[0]:
        raise UsageError("the network has no blocks and no output to compare")
    names = [*paths, OUTPUT][: len(found[0])]
    columns = zip(*found, strict=True)
    return tuple(
        Representation(name, torch.cat(own).T) for name, own in zip(names, columns, strict=True)
    )


class _Outputs:
    """Is given each block in turn, and keeps the means over positions of what it returns."""

    def __init__(self, program: Program, samples: int) -> None:
        self._blocks = program.facts.blocks
        self._samples = samples
        self.found: list[Tensor] = []

    def __call__(self, residue: Residue) -> None:
        block = self._blocks[len(self.found)]
        value = residue.output
        if len(value) != self._samples:
            raise UsageError(
                f"the block {block.path!r} returns {len(value)} rows for {self._samples} inputs, "
                "so it does not keep samples apart"
            )
        self.found.append(activations_of(value, block.channels, "mean"))


def _logits(returned: Any, samples: int) -> Iterator[Tensor]:
    logits = find_logits(returned, lambda value: isinstance(value, Tensor))
    if logits is not None and logits.dim() == 2 and len(logits) == samples:
        yield logits


def _distinct(paths: Iterable[str]) -> list[str]:
    """Paths, of which the second and later occurrences are numbered."""
    found: list[str] = []
    for path in paths:
        seen = sum(name.partition(":")[0] == path for name in found)
        found.append(f"{path}:{seen + 1}" if seen else path)
    return found
