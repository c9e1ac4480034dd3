"""Find the nodes of the activations that a user wants tapped, by name."""

import difflib
from collections.abc import Mapping, Sequence

from torch import fx, nn

from fxtransport.analysis.classifier import find_classifier
from fxtransport.errors import UsageError
from fxtransport.ir import Activation, Activations, Origins, Recording, Term
from fxtransport.unit import Unit

PENULTIMATE = "penultimate"
"""The name of what enters the classifier."""


def modules_to_open(names: Sequence[str], model: nn.Module, recording: Recording) -> list[str]:
    """The paths of modules to open so that each activation is the value of a node.

    Args:
        names: What is to be tapped.
        model: The model.
        recording: Of its forward.

    Raises:
        UsageError: ``penultimate`` is wanted of a model that does not end in a linear layer.
    """
    paths = dict(model.named_modules())
    found = [name.rpartition(".")[0] for name in names if name in paths]
    if PENULTIMATE in names:
        found.append(recording.path(_classifier(model, recording).op).rpartition(".")[0])
    return found


def find_activations(
    names: Sequence[str],
    unit: Unit,
    graph: fx.Graph,
    origins: Origins,
    results: Mapping[str, fx.Node],
) -> Activations:
    """The nodes of the activations, in execution order.

    Args:
        names: What is to be tapped: paths of modules, names of nodes, ``penultimate``.
        unit: The model and its recording.
        graph: Its graph.
        origins: Where the nodes come from.
        results: What each opened module returned last, by path.

    Raises:
        UsageError: there is no such module or node, or it does not compute one tensor.
    """
    position = {node.name: i for i, node in enumerate(graph.nodes)}
    last_call = {str(node.target): node.name for node in graph.nodes if node.op == "call_module"}
    opened = {path: node.name for path, node in results.items()}
    known = {**{name: name for name in position}, **opened, **last_call}
    if PENULTIMATE in names:
        recording = unit.fact(Recording)
        known[PENULTIMATE] = _operand(_classifier(unit.model, recording), recording, origins)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else "inspect lists the nodes"
            raise UsageError(
                f"cannot tap {name!r}: {type(unit.model).__name__} computes nothing of that "
                f"name; {hint}"
            )
    found = [Activation(name, known[name]) for name in dict.fromkeys(names)]
    return Activations(tuple(sorted(found, key=lambda activation: position[activation.node])))


def _classifier(model: nn.Module, recording: Recording) -> Term:
    found = find_classifier(recording)
    if found is None:
        raise UsageError(
            f"cannot tap {PENULTIMATE!r}: no linear layer or convolution leads to what "
            f"{type(model).__name__} returns; name a module instead"
        )
    return found


def _operand(term: Term, recording: Recording, origins: Origins) -> str:
    """The node whose value an operand is, or a view of it."""
    node = origins.operands[term.op][term.operand]
    value = term.value
    while node is None:
        # a closed linear layer flattens what it is given
        producer = recording.producer[value]
        assert producer is not None, "what enters the classifier is computed"
        node, value = origins.operands[producer][0], recording.ops[producer].inputs[0]
    return node
