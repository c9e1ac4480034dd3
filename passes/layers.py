"""Say which nodes of the graph are equal-dimension layers."""

from dataclasses import dataclass
from typing import ClassVar

from fxtransport.ir import Layer, Layers
from fxtransport.passes.base import Pass, Unit
from fxtransport.passes.recording import Recording
from fxtransport.passes.residuals import stage_numbers
from fxtransport.passes.trace import Origins
from fxtransport.passes.units import RecordedLayer, RecordedLayers


@dataclass(frozen=True)
class FindLayers(Pass):
    """Find the nodes of each equal-dimension layer x_{m+1} = g_m(x_m): its input and output."""

    name: ClassVar[str] = "layers"
    requires: ClassVar[tuple[type, ...]] = (Recording, RecordedLayers, Origins)
    provides: ClassVar[tuple[type, ...]] = (Layers,)

    def run(self, unit: Unit) -> Unit:
        """Add the layers."""
        recorded = unit.fact(RecordedLayers).found
        numbers = stage_numbers(layer.shape for layer in recorded)
        found = tuple(
            _layer(layer, stage, unit) for layer, stage in zip(recorded, numbers, strict=True)
        )
        return unit.with_facts(Layers(found))


def _layer(layer: RecordedLayer, stage: int, unit: Unit) -> Layer:
    recording, origins = unit.fact(Recording), unit.fact(Origins)
    reads = recording.ops[layer.first].inputs
    data = next(k for k, value in enumerate(reads) if recording.depends[value])
    source = origins.operands[layer.first][data]
    assert source is not None, f"the input of {layer.path} is no node"
    output = origins.op_nodes[layer.last]
    return Layer(layer.path, source, output, layer.shape[1:], stage)
