"""Recognize where a hidden tensor keeps its channels, by what the model does with it.

A convolution, a batch norm, a layer norm, a linear layer and a scale per channel each say
which dimension of what they read holds the channels. Views in between are followed, so that
a layer norm after a permutation tells the dimension before it.
"""

import math
from collections.abc import Sequence

from torch import fx

from fxtransport.analysis.dataflow import LINEAR, NORMS, VIEWS
from fxtransport.ir import Layout, Op, Origins, Recording

Dims = tuple[frozenset[int], ...]
"""For each dimension of a value, those of the hidden tensor that it runs over."""

_FIRST = NORMS | frozenset(
    "convolution _convolution native_group_norm _adaptive_avg_pool2d _adaptive_avg_pool3d "
    "avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices "
    "upsample_nearest2d upsample_bilinear2d upsample_bicubic2d".split()
)
"""Operations that take their channels from, and leave them in, dimension 1."""

_STEPS = 200
"""How many operations are looked at before the layout counts as unknown."""


class LayoutFinder:
    """The layouts of the values of a graph's nodes."""

    def __init__(self, graph: fx.Graph, recording: Recording, origins: Origins) -> None:
        self.recording = recording
        self._nodes = {node.name: node for node in graph.nodes}
        self._found: dict[tuple[str, tuple[int, ...]], Layout] = {}
        self._ops: dict[str, list[int]] = {}
        for i, name in enumerate(origins.op_nodes):
            self._ops.setdefault(name, []).append(i)

    def layout(self, name: str, shape: tuple[int, ...]) -> Layout:
        """The layout of a tensor that the node of this name computes.

        What reads it counts, then what computed it. If neither says anything, three
        dimensions are tokens, B×N×C, and more are maps, B×C×H×W.
        """
        if (name, shape) not in self._found:
            self._found[name, shape] = self._find(self._nodes[name], shape)
        return self._found[name, shape]

    def _find(self, node: fx.Node, shape: tuple[int, ...]) -> Layout:
        if len(shape) == 2:
            return Layout.VECTOR
        value = self.value_of(node, shape)
        channel = None
        if value is not None:
            channel = self._read_as(value)
            if channel is None:
                channel = self._computed_as(value)
        if channel == 1:
            return Layout.CHANNELS_FIRST
        if channel == len(shape) - 1 or len(shape) == 3:
            return Layout.CHANNELS_LAST
        return Layout.CHANNELS_FIRST

    def value_of(self, node: fx.Node, shape: tuple[int, ...]) -> int | None:
        """The recorded value of a node; None if it is not found.

        A node that runs no operation, such as an identity, hands on what it reads.
        """
        ahead, seen = [node], set()
        while ahead:
            current = ahead.pop()
            if current in seen:
                continue
            seen.add(current)
            for i in reversed(self._ops.get(current.name, [])):
                for value in reversed(self.recording.ops[i].outputs):
                    if self.recording.shapes[value] == shape:
                        return value
            ahead += reversed(current.all_input_nodes)
        return None

    def _read_as(self, value: int) -> int | None:
        """The channel dimension by the first operation after a value that tells it."""
        rank = len(self.recording.shapes[value])
        known: dict[int, Dims] = {value: tuple(frozenset({d}) for d in range(rank))}
        todo = list(self.recording.uses[value])
        for _ in range(_STEPS):
            if not todo:
                return None
            i = min(todo)
            todo = [j for j in todo if j != i]
            op = self.recording.ops[i]
            source = next(v for v in op.inputs if v in known)
            channel = self._channel_by(op, source, known[source], rank)
            if channel is not None:
                return channel
            for output in op.outputs:
                dims = self._dimensions_after(op, source, output, known[source])
                if dims is not None:
                    known[output] = dims
                    todo.extend(self.recording.uses[output])
        return None

    def _channel_by(self, op: Op, source: int, dims: Dims, rank: int) -> int | None:
        """Which dimension of the hidden tensor an operation treats as channels."""
        position = self._channels_read(op, source)
        if position is None or len(dims[position]) != 1:
            return None
        (channel,) = dims[position]
        # mixers apply linear layers to the positions of tokens
        if rank == 3 and channel == 1 and op.base_name in LINEAR and op.name not in _FIRST:
            return None
        return channel if channel in (1, rank - 1) else None

    def _channels_read(self, op: Op, source: int) -> int | None:
        """Which dimension of its operand an operation treats as channels."""
        name, rank = op.base_name, len(self.recording.shapes[source])
        if source != op.inputs[0] and name != "addmm":
            return self._scaled_dimension(op, source)
        if op.name in _FIRST or name in _FIRST:
            return 1 if rank > 2 else None
        if name in ("native_layer_norm", "_fused_rms_norm", "rms_norm"):
            sizes = next((c for c in op.constants if isinstance(c, list | tuple)), ())
            return rank - 1 if len(sizes) == 1 else None
        if name in LINEAR:
            learned = any(not self.recording.depends[v] for v in op.inputs)
            return rank - 1 if learned else None
        return self._scaled_dimension(op, source)

    def _scaled_dimension(self, op: Op, source: int) -> int | None:
        """The dimension along which alone a parameter scales or shifts a value."""
        if op.base_name not in ("mul", "add", "addcmul"):
            return None
        rank = len(self.recording.shapes[source])
        for other in op.inputs:
            shape = self.recording.shapes[other]
            varying = [d for d, size in enumerate(shape, rank - len(shape)) if size > 1]
            if not self.recording.depends[other] and len(varying) == 1 and len(shape) <= rank:
                return varying[0]
        return None

    def _computed_as(self, value: int) -> int | None:
        """The channel dimension by the last operation before a value that tells it."""
        chains = {value: [value]}
        todo = {value}
        for _ in range(_STEPS):
            if not todo:
                return None
            current = max(todo)
            todo.remove(current)
            producer = self.recording.producer[current]
            if producer is None:
                continue
            op = self.recording.ops[producer]
            position = self._channels_left(op, current)
            if position is not None:
                return self._trace_back(chains[current], position)
            for source in op.inputs:
                if self.recording.depends[source] and source not in chains:
                    chains[source] = [*chains[current], source]
                    todo.add(source)
        return None

    def _channels_left(self, op: Op, output: int) -> int | None:
        """Which dimension of its result an operation fills with channels."""
        rank = len(self.recording.shapes[output])
        if op.base_name in _FIRST:
            return 1 if rank > 2 else None
        if op.base_name == "native_layer_norm":
            return self._channels_read(op, op.inputs[0])
        learned = any(not self.recording.depends[v] for v in op.inputs)
        return rank - 1 if op.base_name in LINEAR and learned else None

    def _trace_back(self, chain: list[int], position: int) -> int | None:
        """Where a dimension of the last value of a chain lies in the first."""
        dims: Dims = tuple(frozenset({d}) for d in range(len(self.recording.shapes[chain[-1]])))
        for output, source in zip(chain[-2::-1], chain[:0:-1], strict=True):
            producer = self.recording.producer[output]
            assert producer is not None
            carried = self._dimensions_after(self.recording.ops[producer], source, output, dims)
            if carried is None:
                return None
            dims = carried
        found = [d for d, origin in enumerate(dims) if origin == {position}]
        return found[0] if len(found) == 1 else None

    def _dimensions_after(self, op: Op, source: int, output: int, dims: Dims) -> Dims | None:
        """The dimensions of an operation's result; None if they are not known."""
        before, after = self.recording.shapes[source], self.recording.shapes[output]
        name = op.base_name
        numbers = [c for c in op.constants if isinstance(c, int)]
        match name:
            case "permute":
                return tuple(dims[d] for d in op.constants[0])
            case "transpose":
                one, other = (n % len(dims) for n in numbers[:2])
                swapped = {one: dims[other], other: dims[one]}
                return tuple(swapped.get(d, origin) for d, origin in enumerate(dims))
            case "t":
                return dims[::-1]
            case "select" | "unbind":
                gone = (numbers[0] if numbers else 0) % len(dims)
                return dims[:gone] + dims[gone + 1 :]
            case "view" | "reshape" | "_unsafe_view" | "_reshape_alias" | "unsqueeze" | "squeeze":
                return regroup(before, after, dims)
        if name in LINEAR or len(before) != len(after):
            return None
        return dims if name in VIEWS or before == after else None


def regroup(before: Sequence[int], after: Sequence[int], dims: Dims) -> Dims:
    """What each dimension runs over after a view of another shape with as many elements.

    >>> parts = tuple(map(frozenset, ({0}, {1}, {2})))
    >>> [set(d) for d in regroup((2, 9, 4), (2, 3, 3, 4), parts)]
    [{0}, {1}, {1}, {2}]
    """
    found: list[frozenset[int]] = []
    i = j = 0
    while j < len(after):
        start, first = i, j
        i, j = i + 1, j + 1
        while (n := math.prod(before[start:i])) != (m := math.prod(after[first:j])):
            i, j = (i + 1, j) if n < m else (i, j + 1)
        # dimensions of one element belong to nothing
        inside = range(start, min(i, len(before)))
        origin = frozenset[int]().union(*(dims[d] for d in inside if before[d] > 1))
        found += [origin if size > 1 else frozenset() for size in after[first:j]]
    return tuple(found)
