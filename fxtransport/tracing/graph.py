"""From a model to a graph: trace one mode, check it against the recording, tidy it up."""

import operator
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import fx
from torch.fx.node import map_arg

from fxtransport.ir import Origins, RecordedAdditions, Recording, Shapes, TensorSpec
from fxtransport.tracing.error_context import locate_errors
from fxtransport.tracing.free_functions import FreeFunction
from fxtransport.tracing.recorder import Recorder, tensors_in
from fxtransport.tracing.shadow import shadow_of, without_fast_paths
from fxtransport.tracing.tracer import ValueTracer
from fxtransport.unit import Example, Unit


def with_parents(paths: Iterable[str]) -> frozenset[str]:
    """The paths, and those of all modules around them, the root included.

    >>> sorted(with_parents(["layer1.0"]))
    ['', 'layer1', 'layer1.0']
    """
    opened = {""}
    for path in paths:
        names = path.split(".") if path else []
        opened.update(".".join(names[: i + 1]) for i in range(len(names)))
    return frozenset(opened)


def trace_mode(
    unit: Unit, opened: frozenset[str], *, training: bool, whole: Sequence[FreeFunction] = ()
) -> tuple[fx.Graph, ValueTracer, Origins]:
    """The graph of the model in one mode, in which calls of some functions are nodes."""
    recorder = Recorder()
    tracer = ValueTracer(opened, unit.example, recorder, whole)
    op_nodes: list[str] = []
    operands: list[tuple[str | None, ...]] = []

    def catch_up(count: int) -> None:
        # operations that stand for a read of a written tensor are recorded unobserved
        for _ in range(len(op_nodes), count):
            assert tracer.current is not None
            op_nodes.append(tracer.current.name)
            operands.append(())

    def observe(index: int, tensors: tuple[torch.Tensor, ...]) -> None:
        assert tracer.current is not None
        catch_up(index)
        op_nodes.append(tracer.current.name)
        found = (tracer.node_of_tensor.get(id(t)) for t in tensors)
        operands.append(tuple(None if n is None else n.name for n in found))

    recorder.observe = observe
    # gradients are on, so that it can be seen where the model's code switches them off
    with (
        locate_errors(unit.model, lambda: recorder.failed_path),
        without_fast_paths(),
        torch.enable_grad(),
    ):
        graph = tracer.trace(shadow_of(unit.model).train(training))
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


def check_aligned(recording: Recording, recorder: Recorder) -> None:
    """Assert that the trace ran the operations of the recording, one by one."""
    for i, (recorded, traced) in enumerate(zip(recording.ops, recorder.ops, strict=False)):
        assert recorded.name == traced.name, (
            f"operation {i} is {recorded.name} in {recording.path(i)!r} when recorded, "
            f"and {traced.name} when traced"
        )
    assert len(recording.ops) == len(recorder.ops)


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
    """Whether a node computes no tensor, or only looks into a tuple."""
    if node.target is getattr:
        return node.args[1] in ("shape", "dtype", "device", "ndim")
    return node.target is operator.getitem and isinstance(node.args[1], int)
