"""Questions about a recording's dataflow: what depends on what, through what."""

from collections.abc import Iterator
from dataclasses import dataclass

from fxtransport.ir import ALIAS, Op, Recording

ADDS = frozenset({"add"})
"""Sums of two tensors, in the recording that is spelled out."""

VIEWS = frozenset(
    "alias clone contiguous detach expand flatten flip lift_fresh narrow permute reshape "
    "roll select slice split split_with_sizes chunk squeeze t transpose unbind unflatten "
    "unsqueeze view _reshape_alias _to_copy _unsafe_view as_strided unfold "
    "split_copy unsafe_split unsafe_split_with_sizes unsafe_chunk".split()
)
"""Operations whose result holds elements of their input, unchanged."""

NARROWING = frozenset({"slice", "select", "split", "split_with_sizes", "unbind", "chunk"})
"""Views that leave elements out."""

NORMS = frozenset(
    {
        "native_batch_norm",
        "_native_batch_norm_legit",
        "_native_batch_norm_legit_no_training",
        "_native_batch_norm_legit_functional",
        "_batch_norm_with_update",
        "_batch_norm_no_update",
        "batch_norm",
        "cudnn_batch_norm",
        "miopen_batch_norm",
    }
)
"""Batch normalizations."""

LAYER_NORMS = frozenset({"native_layer_norm", "native_group_norm", "rms_norm", "_fused_rms_norm"})
"""Normalizations of each sample by itself."""

LINEAR = frozenset(
    "convolution _convolution conv2d conv1d conv3d linear addmm mm bmm baddbmm matmul addmv "
    "mv einsum".split()
)
"""Products; affine in the data where all other operands are parameters."""

POOLS = frozenset(
    "avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d "
    "adaptive_avg_pool1d max_pool2d_with_indices max_pool3d_with_indices max_pool2d max_pool3d "
    "max_pool1d amax max mean constant_pad_nd upsample_nearest2d upsample_bilinear2d "
    "upsample_bicubic2d reflection_pad2d replication_pad2d".split()
)
"""Poolings, paddings and resamplings, which a shortcut may contain."""

SCALES = frozenset({"mul", "div", "native_layer_norm", "native_group_norm", "rms_norm"})
"""Scalings by parameters or numbers, and normalizations, which a shortcut may contain."""

COMBINATIONS = frozenset({"add", "sub", "rsub", "neg", "cat", "stack"})
"""Linear in all their operands together."""

ACTIVATIONS = frozenset(
    "relu silu gelu hardswish leaky_relu elu mish sigmoid hardsigmoid tanh hardtanh softplus "
    "relu6 celu selu prelu clamp".split()
)
"""Elementwise activations."""


@dataclass(frozen=True)
class Reach:
    """The part of a dataflow that a value depends on, back to a first operation."""

    values: frozenset[int]
    """Every value passed on the way back, including the start."""
    ops: tuple[int, ...]
    """The operations on the way, in execution order."""


class Dataflow:
    """A recording, with the questions that the rules of residuals ask."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.end = call_ends(recording)

    def op_of(self, value: int) -> Op | None:
        """The operation that computes a value; None for inputs and parameters."""
        producer = self.recording.producer[value]
        return None if producer is None else self.recording.ops[producer]

    def position(self, value: int) -> int:
        """When a value is computed; inputs and parameters come before all operations."""
        producer = self.recording.producer[value]
        return -1 if producer is None else producer

    def back(self, value: int, floor: int = 0, stop: int | None = None) -> Reach:
        """What a value depends on, through operations from ``floor`` on.

        Args:
            value: Where to start.
            floor: Operations before this one are not followed; their values count.
            stop: A value at which to stop.
        """
        seen = {value}
        ops: set[int] = set()
        todo = [value]
        while todo:
            current = todo.pop()
            if current == stop or self.position(current) < floor:
                continue
            producer = self.position(current)
            ops.add(producer)
            for operand in self.recording.ops[producer].inputs:
                if operand not in seen:
                    seen.add(operand)
                    todo.append(operand)
        return Reach(frozenset(seen), tuple(sorted(ops)))

    def between(self, source: int, reach: Reach) -> list[int]:
        """The operations of a reach that depend on a source value, in order."""
        known = {source}
        found = []
        for i in reach.ops:
            op = self.recording.ops[i]
            if source in op.outputs:
                continue
            if known.intersection(op.inputs):
                known.update(op.outputs)
                found.append(i)
        return found

    def view_chain(self, value: int) -> list[int]:
        """The value, and what it is a view or slice of, outwards."""
        chain = [value]
        while (op := self.op_of(chain[-1])) is not None and op.base_name in VIEWS:
            chain.append(op.inputs[0])
        return chain

    def data_inputs(self, op: Op) -> list[int]:
        """The operands that depend on the model's input."""
        return [v for v in op.inputs if self.recording.depends[v]]

    def is_learned(self, op: Op) -> bool:
        """Whether an operation combines data with parameters, or is a Fourier transform.

        FNet mixes tokens by such a transform, in the place of attention.
        """
        if op.base_name.startswith("_fft_"):
            return True
        if op.base_name in ADDS or op.name == ALIAS:
            return False
        return len(self.data_inputs(op)) < len(op.inputs)

    def is_affine(self, op: Op) -> bool:
        """Whether an operation is affine in the data, a normalization or a pooling."""
        name = op.base_name
        if name in VIEWS or name in NORMS or name in POOLS or name in COMBINATIONS:
            return True
        return name in LINEAR | SCALES and len(self.data_inputs(op)) == 1

    def interval(self, value: int) -> tuple[int, int, int] | None:
        """Which part of its operand a narrowing view is: dimension, start, stop."""
        op = self.op_of(value)
        if op is None or op.base_name not in NARROWING:
            return None
        whole = self.recording.shapes[op.inputs[0]]
        numbers = [c for c in op.constants if isinstance(c, int)]
        match op.base_name:
            case "slice":
                dim, start = (*numbers, 0, 0)[:2] if numbers else (0, 0)
                start = start + whole[dim] if start < 0 else start
                return dim, start, start + self.recording.shapes[value][dim]
            case "select":
                dim, index = numbers[:2]
                index = index + whole[dim] if index < 0 else index
                return dim % len(whole), index, index + 1
            case "unbind":
                dim = numbers[0] if numbers else 0
                index = op.outputs.index(value)
                return dim % len(whole), index, index + 1
        # split, split_with_sizes and chunk: the pieces follow one another
        dim = numbers[-1] if len(numbers) > 1 or op.base_name == "split_with_sizes" else 0
        dim = dim % len(whole) if numbers else 0
        sizes = [self.recording.shapes[v][dim] for v in op.outputs]
        index = op.outputs.index(value)
        return dim, sum(sizes[:index]), sum(sizes[: index + 1])

    def disjoint(self, one: int, other: int) -> bool:
        """Whether two narrowing views of one value share no element."""
        a, b = self.interval(one), self.interval(other)
        if a is None or b is None or a[0] != b[0]:
            return False
        return a[2] <= b[1] or b[2] <= a[1]

    def callers(self, call: int) -> Iterator[int]:
        """A module call and those that it runs in, outwards."""
        current: int | None = call
        while current is not None:
            yield current
            current = self.recording.calls[current].parent


def call_ends(recording: Recording) -> list[int]:
    """For each module call, the position after its last operation."""
    ends = [call.first for call in recording.calls]
    for i, op in enumerate(recording.ops):
        current: int | None = op.call
        while current is not None:
            ends[current] = i + 1
            current = recording.calls[current].parent
    return ends
