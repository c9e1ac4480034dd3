"""Find equal-dimension layers in the recording of a model that has no residual addition."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fxtransport.analysis.dataflow import ACTIVATIONS, NORMS, Dataflow
from fxtransport.ir import RecordedAdditions, RecordedLayer, RecordedLayers, Recording
from fxtransport.passes.base import Pass
from fxtransport.unit import Unit

_NORMALIZATIONS = NORMS | {"native_layer_norm", "native_group_norm"}


@dataclass(frozen=True)
class FindLayers(Pass):
    """Find equal-dimension layers in the recording of a model without residual additions."""

    name: ClassVar[str] = "layers"
    requires: ClassVar[tuple[type, ...]] = (Recording, RecordedAdditions)
    provides: ClassVar[tuple[type, ...]] = (RecordedLayers,)

    def run(self, unit: Unit) -> Unit:
        """Add the layers of the recording."""
        if any(a.tapped for a in unit.fact(RecordedAdditions).found):
            return unit.with_facts(RecordedLayers((), ()))
        recording = unit.fact(Recording)
        layers = find_layers(recording)
        paths = [_container(recording, layer) for layer in layers]
        return unit.with_facts(RecordedLayers(layers, (*paths, *_chains(unit.model))))


def find_layers(recording: Recording) -> tuple[RecordedLayer, ...]:
    """Units x_{m+1} = activation(norm(conv(x_m))) of one shape (THESIS 2.1), in order.

    In a network without convolutions, linear layers take their place.
    """
    flow = Dataflow(recording)
    products = {"convolution"} & {op.name for op in recording.ops} or {"addmm", "mm"}
    layers = []
    for i, op in enumerate(recording.ops):
        if op.name not in products or len(flow.data_inputs(op)) != 1:
            continue
        source = flow.data_inputs(op)[0]
        last = _end_of_unit(flow, i)
        result = recording.ops[last].outputs[0]
        shape = recording.shapes[result]
        if last == i or shape != recording.shapes[source] or _bypassed(flow, result):
            continue
        layers.append(RecordedLayer(recording.path(i), i, last, shape))
    return tuple(layers)


def _bypassed(flow: Dataflow, value: int) -> bool:
    """Whether the output depends on the input also by ways around a value."""
    recording = flow.recording
    for output in recording.outputs:
        reach = flow.back(output, stop=value)
        if any(recording.depends[v] and recording.producer[v] is None for v in reach.values):
            return True
    return False


def _container(recording: Recording, layer: RecordedLayer) -> str:
    """The innermost module around a layer, in whose graph its ends are nodes."""
    paths = [recording.path(i).split(".") for i in range(layer.first, layer.last + 1)]
    common = []
    for names in zip(*paths, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return ".".join(common)


def _end_of_unit(flow: Dataflow, op: int) -> int:
    """The last operation of the norm and activation after a product."""
    recording = flow.recording
    while True:
        readers = recording.uses[recording.ops[op].outputs[0]]
        if len(readers) != 1:
            return op
        name = recording.ops[readers[0]].base_name
        if name not in _NORMALIZATIONS | ACTIVATIONS:
            return op
        op = readers[0]
        if name in ACTIVATIONS:
            return op


def _chains(module: nn.Module, path: str = "") -> list[str]:
    """The paths of plain ``nn.Sequential`` chains from the root down."""
    found = []
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential) and type(child).forward is nn.Sequential.forward:
            below = f"{path}.{name}".strip(".")
            found += [below, *_chains(child, below)]
    return found
