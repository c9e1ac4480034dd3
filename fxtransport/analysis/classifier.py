"""Find the layer that computes what a model returns: the classifier, of a classifier."""

from fxtransport.analysis.dataflow import LINEAR, Dataflow
from fxtransport.ir import Recording, Term


def find_classifier(recording: Recording) -> Term | None:
    """What enters the last linear layer or convolution before the first output.

    Returns:
        The operand of that operation which depends on the input; None if there is none.
    """
    if not recording.outputs:
        return None
    flow = Dataflow(recording)
    for i in reversed(flow.back(recording.outputs[0]).ops):
        op = recording.ops[i]
        data = flow.data_inputs(op)
        if op.base_name in LINEAR and len(data) == 1 and flow.is_learned(op):
            return Term(i, op.inputs.index(data[0]), data[0])
    return None
