"""From a model to a graph: trace one mode, check it against the recording, tidy it up."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_arg

from fxtransport.errors import TraceError
from fxtransport.example import Example
from fxtransport.ir import Origins, RecordedAdditions, Recording, Shapes, TensorSpec
from fxtransport.process import device_of
from fxtransport.runtime import GRADIENT_QUESTIONS
from fxtransport.tracing.error_context import LocateErrors, advise_on_code, describe_module
from fxtransport.tracing.free_functions import FreeFunction
from fxtransport.tracing.recorder import Recorder, tensors_in
from fxtransport.tracing.shadow import shadow_of, without_fast_paths
from fxtransport.tracing.sites import input_names
from fxtransport.tracing.tracer import ValueTracer
from fxtransport.unit import Unit


def with_parents(paths: Iterable[str], model: nn.Module | None = None) -> frozenset[str]:
    """The paths, and those of all modules around them, the root included.

    Where a model is given, a module that it holds under several names has modules around it
    under each.

    >>> sorted(with_parents(["layer1.0"]))
    ['', 'layer1', 'layer1.0']
    """
    opened, paths = {""}, list(paths)
    if model is not None:
        names: dict[int, list[str]] = {}
        for path, module in model.named_modules(remove_duplicate=False):
            names.setdefault(id(module), []).append(path)
        paths = [name for path in paths for name in names[id(model.get_submodule(path))]]
    for path in paths:
        steps = path.split(".") if path else []
        opened.update(".".join(steps[: i + 1]) for i in range(len(steps)))
    return frozenset(opened)


def trace_mode(
    unit: Unit,
    opened: frozenset[str],
    *,
    training: bool,
    whole: Sequence[FreeFunction] = (),
    gradients: bool = True,
) -> tuple[fx.Graph, ValueTracer, Origins]:
    """The graph of the model in one mode, in which calls of some functions are nodes."""
    recorder = Recorder(differentiates=unit.fact(Recording).differentiates)
    shadow = shadow_of(unit.model).train(training)
    recorder.constants.hold(unit.model, shadow)
    device = device_of(unit.model)
    tracer = ValueTracer(shadow, opened, recorder, device, gradients=gradients)
    op_nodes: list[str] = []
    operands: list[tuple[str | None, ...]] = []

    def catch_up(count: int) -> None:
        # operations that stand for a read of a written tensor are recorded unobserved
        for _ in range(len(op_nodes), count):
            assert tracer.current is not None
            op_nodes.append(tracer.current.name)
            operands.append(())

    def observe(index: int, tensors: tuple[torch.Tensor, ...]) -> None:
        if not tracer.evaluating:
            name = recorder.ops[index].name
            unseen = f"runs {name} in a way that a graph does not see"
            raise tracer.refuse(
                "makes a tensor of numpy data" if name == "lift_fresh" else unseen,
                "make it a buffer of a module, or move this code to a module without a residual "
                "addition, which keeps its own code",
            )
        assert tracer.current is not None, "an operation runs for a node"
        catch_up(index)
        op_nodes.append(tracer.current.name)
        operands.append(tuple(map(tracer.name_of, tensors)))

    def run(tracer: ValueTracer) -> Any:
        example = unit.example
        names = example.names or input_names(shadow.forward, len(example.inputs))
        pairs = zip(names, example.inputs, strict=True)
        return example.call(shadow, [tracer.placeholder(name, value) for name, value in pairs])

    recorder.observe = observe
    # gradients are on, so that it can be seen where the model's code switches them off
    with (
        LocateErrors(unit.model, lambda: recorder.failed_path, advise_on_code),
        without_fast_paths(),
        torch.enable_grad(),
    ):
        graph = tracer.trace(run, whole)
        recorder.finish(map_arg(graph.output_node().args[0], tracer.values.__getitem__))
        catch_up(len(recorder.ops))
    origins = Origins(tracer.owners, tuple(op_nodes), tuple(operands), opened)
    return graph, tracer, origins


def keepable(unit: Unit, tracer: ValueTracer, origins: Origins) -> list[FreeFunction]:
    """The functions that decided on shapes, and in which no residual addition is."""
    sites = {node.name: site for node, site in tracer.sites.items()}
    inside = {
        code
        for addition in unit.fact(RecordedAdditions).found
        if addition.tapped
        for code, _ in sites[origins.op_nodes[addition.op]]
    }
    found = {f.function: f for f in tracer.deciding if f.function.__code__ not in inside}
    return list(found.values())


def check_aligned(unit: Unit, recorder: Recorder) -> None:
    """See that the trace ran the operations of the recording, one by one.

    Raises:
        TraceError: it did not.
    """
    recording = unit.fact(Recording)
    pairs = zip_longest(recording.ops, recorder.ops)
    for i, (recorded, traced) in enumerate(pairs):
        if recorded is None or traced is None or recorded.name != traced.name:
            path = recording.path(min(i, len(recording.ops) - 1))
            first, second = (op.name if op else "nothing" for op in (recorded, traced))
            raise TraceError(
                f"{describe_module(unit.model, path)} runs {first} in one forward pass and "
                f"{second} in the next, for inputs of one shape: it depends on something that "
                "changes from call to call; please report this model"
            )


def shapes_of(graph: fx.Graph, values: Mapping[fx.Node, object], example: Example) -> Shapes:
    """The shapes of all nodes that compute a tensor."""
    specs = {
        node.name: TensorSpec(
            tuple(value.shape), str(value.dtype).removeprefix("torch."), value.nbytes
        )
        for node in graph.nodes
        if isinstance(value := values.get(node), torch.Tensor)
    }
    compound = frozenset(
        node.name for node in graph.nodes if node.name not in specs and tensors_in(values.get(node))
    )
    return Shapes(specs, compound, example.batch_size)


def remove_unused(graph: fx.Graph) -> None:
    """Remove nodes that only look at shapes, flags and parameters, and that nothing reads.

    Modules and functions stay: they may write buffers, draw random numbers or raise.
    """
    for node in reversed(list(graph.nodes)):
        if node.users:
            continue
        if node.op == "get_attr" or (node.op == "call_function" and is_free(node)):
            graph.erase_node(node)


def sink_attributes(graph: fx.Graph) -> None:
    """Read parameters, buffers and flags where they are first used, not all at the start."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if node.op == "get_attr":
            min(node.users, key=order.__getitem__).prepend(node)


def is_free(node: fx.Node) -> bool:
    """Whether a node computes no tensor, or only looks into a structure."""
    if node.target is getattr:
        return node.args[1] in ("shape", "dtype", "device", "ndim")
    if node.target is operator.getitem:
        return isinstance(node.args[1], int | str)
    return node.target in (len, tuple, *GRADIENT_QUESTIONS)
