"""Name the nodes of what was found in a recording: residual additions and layers."""

import math
from collections.abc import Container, Iterable

from fxtransport.ir import (
    Addition,
    Kind,
    Layer,
    Layers,
    Origins,
    RecordedAdditions,
    RecordedLayer,
    RecordedLayers,
    Recording,
    Residual,
    Residuals,
    Term,
)


def name_residuals(additions: RecordedAdditions, origins: Origins) -> Residuals:
    """The residual additions as nodes: the sum, its skip and its branches."""
    numbers = stage_numbers(a.shape for a in additions.found)
    pairs = zip(additions.found, numbers, strict=True)
    return Residuals(tuple(_residual(addition, stage, origins) for addition, stage in pairs))


def name_layers(
    layers: RecordedLayers, recording: Recording, origins: Origins, tensors: Container[str]
) -> Layers:
    """The equal-dimension layers x_{m+1} = g_m(x_m) as nodes: their input and output.

    Args:
        layers: As they were recorded.
        recording: The recording.
        origins: Of what the nodes come.
        tensors: The nodes that are tensors. A layer inside of a node, or at the end of one that
            returns a structure, cannot be tapped and is left out.
    """
    numbers = stage_numbers(layer.shape for layer in layers.found)
    pairs = zip(layers.found, numbers, strict=True)
    found = (_layer(layer, stage, recording, origins) for layer, stage in pairs)
    return Layers(tuple(x for x in found if x.input in tensors and x.output in tensors))


def stage_numbers(shapes: Iterable[tuple[int, ...]]) -> list[int]:
    """The number of each shape's stage: a stage is a run of one shape.

    Shapes with as many elements count as one, for blocks that add once to a map and once to
    the map's tokens.

    >>> stage_numbers([(4, 4, 8), (16, 8), (4, 8), (16, 8)])
    [0, 0, 1, 2]
    """
    numbers: list[int] = []
    last: int | None = None
    for shape in shapes:
        size = math.prod(shape)
        numbers.append(numbers[-1] + (size != last) if numbers else 0)
        last = size
    return numbers


def _residual(addition: Addition, stage: int, origins: Origins) -> Residual:
    def node_of(term: Term) -> str | None:
        operands = origins.operands[term.op]
        return operands[term.operand] if addition.path in origins.opened else None

    skip, branch = node_of(addition.skip), [node_of(t) for t in addition.branch]
    known = tuple(b for b in branch if b is not None)
    # operands inside of one node, such as a stack of the pieces of a split, cannot be tapped
    in_the_open = skip is not None and len(known) == len(branch)
    kind = Kind.INNER if addition.tapped and not in_the_open else addition.kind
    return Residual(
        path=addition.path,
        kind=kind,
        node=origins.op_nodes[addition.op],
        skip=skip,
        branch=known,
        shape=addition.shape[1:],
        stage=stage,
    )


def _layer(layer: RecordedLayer, stage: int, recording: Recording, origins: Origins) -> Layer:
    reads = recording.ops[layer.first].inputs
    data = next(k for k, value in enumerate(reads) if recording.depends[value])
    source = origins.operands[layer.first][data] or ""
    output = origins.op_nodes[layer.last]
    return Layer(layer.path, source, output, layer.shape[1:], stage)
