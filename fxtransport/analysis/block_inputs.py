"""Find what a residual block starts from whose skip is a projection: x_m, as a node."""

from fxtransport.analysis.layouts import LayoutFinder
from fxtransport.errors import TraceError
from fxtransport.ir import Addition, BlockInput, Origins, Recording, Residual, Term


def find_reading(addition: Addition, recording: Recording, origins: Origins) -> Term | None:
    """The first operation that reads a block's input as the value of a node; None if none does."""
    value = addition.skip_root
    # numbers beyond those are of multiples that only the spelled-out recording has
    for op in recording.uses[value] if value < len(recording.uses) else ():
        operands = origins.operands[op]
        for k, read in enumerate(recording.ops[op].inputs[: len(operands)]):
            if read == value and operands[k] is not None:
                return Term(op, k, value)
    return None


def describe_input(
    node: str, value: int, residual: Residual, addition: Addition, layouts: LayoutFinder
) -> BlockInput:
    """The input of a block, and where both ends keep their channels.

    Args:
        node: The node that holds it.
        value: The same in the recording.
        residual: The block.
        addition: The same in the recording.
        layouts: Those of the graph.
    """
    recording = layouts.recording
    shape = recording.shapes[value]
    output = recording.shapes[recording.ops[addition.op].outputs[0]]
    return BlockInput(
        node,
        shape[1:],
        layouts.layout(node, shape).channels(len(shape)),
        layouts.layout(residual.node, output).channels(len(output)),
    )


def no_input(residual: Residual) -> TraceError:
    """The error that a block starts where no node is."""
    return TraceError(
        f"the block that {residual.path or 'the model'} adds starts inside of a module that is one "
        "node, so its input cannot be handed on; return it from that module, or compile with "
        "projection_inputs=False"
    )
