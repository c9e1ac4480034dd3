"""How near the blocks of a trained network are to optimal maps, for the listing of its graph."""

from collections import defaultdict
from dataclasses import asdict
from itertools import islice
from typing import Any

import torch

from fxtransport.comparing.networks import Network
from fxtransport.detecting.source import DataSource
from fxtransport.errors import UsageError
from fxtransport.ir import Layers, Residuals
from fxtransport.ot.clouds import Movement, cloud_movements
from fxtransport.unit import Unit


def movements_of(network: Network, points: int = 256) -> tuple[Movement, ...]:
    """Compare the identity blocks of a run with optimal maps, on its validation samples.

    Args:
        network: A run that was opened.
        points: The largest number of samples; of the test split if none is held out.

    Raises:
        UsageError: its data is not known, or it has no identity block.
    """
    source: DataSource | None = network.source
    if source is None:
        raise UsageError(f"{network.name} is not a run, which knows its data")
    data = network.data(source)
    stream = data.require_test() if data.validation is None else data.validation
    batches = [inputs for inputs, _ in islice(iter(stream), points)]
    return cloud_movements(network.program, torch.cat(batches)[:points])


def by_node(movements: tuple[Movement, ...], unit: Unit) -> dict[str, Movement]:
    """Movements by the node whose value is the output of the block."""
    residuals = unit.fact(Residuals).tapped if unit.has(Residuals) else ()
    layers = unit.fact(Layers).found if unit.has(Layers) else ()
    nodes: dict[str, list[str]] = defaultdict(list)
    for residual in residuals:
        if residual.kind == "identity":
            nodes[residual.path].append(residual.node)
    for layer in layers:
        nodes[layer.path].append(layer.output)
    return {nodes[movement.path].pop(0): movement for movement in movements if nodes[movement.path]}


def to_json(movement: Movement) -> dict[str, Any]:
    """A movement, as JSON."""
    return {**asdict(movement), "optimality": movement.optimality}
