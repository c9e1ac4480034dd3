"""Trace a model into one graph that is right in train and eval mode."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx, nn

from fxtransport.errors import TraceError
from fxtransport.hooks import hook_error, hook_of
from fxtransport.ir import Checkpoints, Constructs, Origins, WatchedAttributes
from fxtransport.tracing.checkpoints import Regions, checkpoints_of
from fxtransport.tracing.free_functions import FreeFunction
from fxtransport.tracing.graph import check_aligned, keepable, trace_mode
from fxtransport.tracing.merge_modes import Merged, merge_modes
from fxtransport.tracing.tracer import ValueTracer
from fxtransport.unit import Unit


@dataclass(frozen=True)
class Traced:
    """A model's graph for both modes, and what was met on the way."""

    graph: fx.Graph
    tracer: ValueTracer
    """Of the eval trace."""
    origins: Origins
    merged: Merged
    constructs: Constructs
    watched: WatchedAttributes
    checkpoints: Checkpoints


def trace_model(unit: Unit, opened: frozenset[str]) -> Traced:
    """The graph of a model, opened at some modules.

    Raises:
        TraceError: the code of an opened module does what a graph cannot hold.
    """
    refuse_hooks(unit.model, opened)
    graph, tracer, origins = _trace(unit, opened, training=False)
    whole = keepable(unit, tracer, origins)
    if whole:
        graph, tracer, origins = _trace(unit, opened, training=False, whole=whole)
    merged = Merged({}, frozenset(), {})
    regions: Regions | None = None
    watched = list(tracer.watched)
    if tracer.modes.asked:
        # the code asks whether it trains; see whether the answer changes the graph
        _, in_train, _ = _trace(unit, opened, training=True, whole=whole)
        merged = merge_modes(tracer, in_train)
        origins = origins.with_choices(merged.choices)
        watched += in_train.watched
        regions = in_train.checkpoints
        tracer.asked_rank |= in_train.asked_rank
    if tracer.asked_rank:
        tracer.guard_ranks()
    check_aligned(unit, tracer.recorder)
    constructs = Constructs(
        autocast=tracer.contexts.entered_autocast,
        modes=bool(tracer.modes.asked),
        pieces=tracer.counts_pieces,
    )
    found = WatchedAttributes(
        tuple({(w.module, w.holder, w.path, w.name): w for w in reversed(watched)}.values())
    )
    checkpoints = checkpoints_of(tracer.checkpoints, regions, merged.names, merged.conditional)
    return Traced(graph, tracer, origins, merged, constructs, found, checkpoints)


def _trace(
    unit: Unit, opened: frozenset[str], *, training: bool, whole: Sequence[FreeFunction] = ()
) -> tuple[fx.Graph, ValueTracer, Origins]:
    """The graph in one mode, which is the same with and without gradients."""
    traced = trace_mode(unit, opened, training=training, whole=whole)
    questions = traced[1].questions
    if questions:
        other, _, _ = trace_mode(unit, opened, training=training, whole=whole, gradients=False)
        if _text(other) != _text(traced[0]):
            raise TraceError(
                f"the code asks for {questions[0]}, and runs other operations where gradients "
                "are not computed; run the same operations, or move this code to a module "
                "without a residual addition, which keeps its own code"
            )
    return traced


def _text(graph: fx.Graph) -> list[str]:
    return [str((n.name, n.op, n.target, n.args, n.kwargs)) for n in graph.nodes]


def refuse_hooks(model: nn.Module, opened: frozenset[str]) -> None:
    """Refuse hooks of modules whose code is in the graph: a program would not run them.

    Raises:
        TraceError: there is one.
    """
    for path in sorted(opened):
        module = model.get_submodule(path)
        kind = hook_of(module)
        if kind is not None:
            raise TraceError(hook_error(path, module, kind))
