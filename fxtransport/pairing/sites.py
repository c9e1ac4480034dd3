"""The layers of a model that can be paired: its residual sites, and what enters its classifier."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fxtransport.analysis.activations import PENULTIMATE
from fxtransport.analysis.classifier import find_classifier
from fxtransport.errors import UsageError
from fxtransport.example import Example
from fxtransport.ir import Block, Layers, Recording, Residuals
from fxtransport.objectives.neurons import positions_of
from fxtransport.objectives.transfer import LayerOf
from fxtransport.passes.base import Pass
from fxtransport.passes.pipeline import run_passes
from fxtransport.passes.trace import Trace
from fxtransport.process import preserve_process
from fxtransport.program import Program
from fxtransport.residue import Measures
from fxtransport.tracing.shadow import shadow_of
from fxtransport.unit import Unit

AUTO = "auto"
Pairing = str | Sequence[tuple[str, str]]
"""``penultimate``, ``auto``, or pairs of names: of the student, and of the teacher; ``()`` for
none."""

_MOST_IN_ONE = 3
"""A module that adds more residuals than this is no block, but a chain of them."""


@dataclass(frozen=True)
class Site:
    """A layer that is tapped in a program."""

    layer: LayerOf
    part: int
    """The part that computes it."""
    depth: float
    """Its place among the sites, from 0 to 1, the last."""

    @property
    def positions(self) -> tuple[int, ...]:
        """The sizes of its map, or the number of its tokens; empty for a vector."""
        return positions_of(self.layer.shape, self.layer.channels)


def site_names(model: nn.Module, example: Example, passes: Sequence[Pass]) -> tuple[str, ...]:
    """The names of a model's residual sites, and ``penultimate`` where it has a classifier.

    A site is named by the module that adds, whose output it then is; where that is the whole
    model, or a chain of blocks, by the node of the addition. Of a model without residual additions
    the sites are its equal-dimension layers.

    Args:
        model: The model.
        example: What it is given.
        passes: Those that a program of it is made by.
    """
    unit = run_passes(Unit(model, example), passes, after=Trace.name)
    residuals = unit.fact(Residuals).tapped
    count: dict[str, int] = {}
    for residual in residuals:
        count[residual.path] = count.get(residual.path, 0) + 1
    modules = dict(model.named_modules())
    names = [
        r.path if r.path and r.path in modules and count[r.path] <= _MOST_IN_ONE else r.node
        for r in residuals
    ]
    names += [layer.output for layer in unit.fact(Layers).found]
    if find_classifier(unit.fact(Recording)) is not None:
        names.append(PENULTIMATE)
    return tuple(dict.fromkeys(names))


def wanted_names(
    layers: Pairing,
    side: int,
    model: nn.Module,
    example: Example,
    passes: Sequence[Pass],
) -> tuple[str, ...]:
    """What is to be tapped of one of two models.

    Args:
        layers: ``penultimate``, ``auto``, or pairs of names.
        side: 0 for the student, 1 for the teacher.
        model: The model.
        example: What it is given.
        passes: Those that a program of it is made by.
    """
    if layers == AUTO:
        return site_names(model, example, passes)
    return tuple(dict.fromkeys(pair[side] for pair in named_pairs(layers)))


def named_pairs(layers: Pairing) -> list[tuple[str, str]]:
    """The pairs of names that a user gives, other than by ``auto``.

    Raises:
        UsageError: they are not pairs of names.
    """
    if layers == PENULTIMATE:
        return [(PENULTIMATE, PENULTIMATE)]
    if layers == ():
        return []
    given: list[Any] = [] if isinstance(layers, str) else [*layers]
    if not given or not all(map(_is_pair, given)):
        raise UsageError(
            "layers are 'penultimate', 'auto', or pairs of names such as "
            f"[('layer3', 'stages.2')], not {layers!r}"
        )
    return [(own, other) for own, other in given]


def _is_pair(given: Any) -> bool:
    """Whether something is two names."""
    is_two = isinstance(given, tuple | list) and len(given) == 2
    return is_two and all(isinstance(name, str) and name for name in given)


def parse_layers(text: str) -> Pairing:
    """Which layers a text pairs.

    >>> parse_layers("auto"), parse_layers("layer3=stages.2,layer4=stages.3")
    ('auto', [('layer3', 'stages.2'), ('layer4', 'stages.3')])

    Raises:
        UsageError: it is neither ``penultimate`` nor ``auto`` nor pairs.
    """
    if text in (PENULTIMATE, AUTO):
        return text
    found = []
    for part in text.split(","):
        own, equals, other = (word.strip() for word in part.partition("="))
        if not own or not equals or not other:
            raise UsageError(
                "layers are penultimate, auto, or STUDENT=TEACHER[,…], such as "
                f"layer3=stages.2, not {text!r}"
            )
        found.append((own, other))
    return found


def write_layers(layers: Pairing) -> str:
    """The text of a pairing, which :func:`parse_layers` reads."""
    if isinstance(layers, str):
        return layers
    return ",".join(f"{own}={other}" for own, other in layers)


def with_taps(passes: Sequence[Pass], names: Sequence[str]) -> tuple[Pass, ...]:
    """The same passes, which tap these activations too."""
    if not any(isinstance(step, Trace) for step in passes):
        return (Trace(activations=tuple(names)), *passes)
    return tuple(
        replace(step, activations=tuple(dict.fromkeys((*step.activations, *names))))
        if isinstance(step, Trace)
        else step
        for step in passes
    )


def sites_of(program: Program) -> dict[str, Site]:
    """The layers that are tapped in a program, by name, in execution order.

    Those that are no tensors with a batch and channels are left out.
    """
    found = _probe(program)
    others = [name for name in found if name != PENULTIMATE]
    sites = {}
    for name, (part, shape) in found.items():
        depth = 1.0 if name == PENULTIMATE else (others.index(name) + 1) / len(others)
        channels = _channels(name, shape, program.facts.blocks)
        sites[name] = Site(LayerOf(name, shape, channels), part, depth)
    return sites


def _probe(program: Program) -> dict[str, tuple[int, tuple[int, ...]]]:
    """The part and the shape without batch of each tapped activation, without computing any."""
    found: dict[str, tuple[int, tuple[int, ...]]] = {}
    model = program._model[0]
    with preserve_process(model), torch.no_grad(), torch.device("meta"):
        root, state = shadow_of(model), tuple(program.facts.example.inputs)
        for k, part in enumerate(program.lowered.parts):

            def note(name: str, value: Any, part: int = k) -> None:
                if isinstance(value, torch.Tensor) and value.dim() > 1:
                    found[name] = (part, tuple(value.shape[1:]))

            state, _ = part.function.call(root, *state, Measures(activation=note))
    return found


def _channels(name: str, shape: tuple[int, ...], blocks: Sequence[Block]) -> int:
    """The dimension of a layer's channels: that of the block it is the end of.

    Where no block tells, vectors and maps have it first, and tokens, B×N×C, last.
    """
    alike = [block for block in blocks if block.shape == shape]
    inside = [b for b in alike if b.path == name or b.path.startswith(f"{name}.")]
    for block in reversed(inside or alike):
        return block.channels
    return 2 if len(shape) == 2 else 1
