"""What sums are not the state of a block: logits of a gate or of attention, and errors."""

from fxtransport.analysis.dataflow import LINEAR, VIEWS, Dataflow

_PASSED = VIEWS | {"mul", "div", "add", "masked_fill", "where", "clamp", "minimum", "maximum"}
"""What logits go through: scales, biases and masks."""
_WEIGHTS = frozenset({"sigmoid", "hardsigmoid", "_softmax", "_safe_softmax"})
_PRODUCTS = LINEAR | {"mul"}
_DROPPED = VIEWS | {"native_dropout", "bernoulli", "div"}
_SIZES = frozenset({"abs", "square", "pow", "linalg_vector_norm", "norm"})


def only_weighs(flow: Dataflow, value: int) -> bool:
    """Whether a value does nothing but decide by which weights others are multiplied.

    Every use of it ends in a sigmoid, or in a softmax, and that in a product.
    """
    recording = flow.recording
    ahead, seen = [value], {value}
    while ahead:
        current = ahead.pop()
        uses = recording.uses[current]
        if current in recording.outputs or not uses:
            return False
        for op in (recording.ops[i] for i in uses):
            if op.base_name in _WEIGHTS:
                if not _multiplies(flow, op.outputs[0]):
                    return False
            elif op.base_name in _PASSED:
                new = set(op.outputs) - seen
                seen |= new
                ahead += new
            else:
                return False
    return True


def _multiplies(flow: Dataflow, value: int) -> bool:
    recording = flow.recording
    uses = [recording.ops[i] for i in recording.uses[value]]
    if value in recording.outputs or not uses:
        return False
    return all(
        op.base_name in LINEAR | {"mul"}
        or (op.base_name in _DROPPED and _multiplies(flow, op.outputs[0]))
        for op in uses
    )


def only_measured(flow: Dataflow, value: int) -> bool:
    """Whether nothing but the size of a value is used, as of an error in a loss."""
    uses = {flow.recording.ops[i].base_name for i in flow.recording.uses[value]}
    return bool(uses) and uses <= _SIZES and value not in flow.recording.outputs
