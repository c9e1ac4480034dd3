"""Trace the model into one graph that opens only what holds a residual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fxtransport.errors import TraceError
from fxtransport.ir import (
    Activations,
    Layers,
    Origins,
    RecordedAdditions,
    RecordedLayers,
    Recording,
    Residuals,
    Shapes,
)
from fxtransport.passes.base import Pass, setting

if TYPE_CHECKING:
    from fxtransport.unit import Unit


@dataclass(frozen=True)
class Trace(Pass):
    """One graph, opened only where a residual addition lives, right in train and eval."""

    name: ClassVar[str] = "trace"
    requires: ClassVar[tuple[type, ...]] = (Recording, RecordedAdditions, RecordedLayers)
    provides: ClassVar[tuple[type, ...]] = (
        Origins,
        Shapes,
        Residuals,
        Layers,
        Activations,
    )
    preserves: ClassVar[tuple[type, ...]] = (Recording, RecordedAdditions, RecordedLayers)
    rewrites: ClassVar[bool] = True

    open: tuple[str, ...] = ()
    """Further modules to open, by path."""
    activations: tuple[str, ...] = setting(
        (),
        "Tap what this module or node computes, or penultimate, what enters the classifier; may "
        "be repeated.",
        flag="--activation",
        metavar="NAME",
    )

    def run(self, unit: Unit) -> Unit:
        """Add the graph, what its nodes come from, their shapes, and the names of findings.

        Raises:
            TraceError: the forward decides on data, or runs in eval mode what it does not
                run in train mode.
            UsageError: an activation is not there.
        """
        from fxtransport.analysis.activations import find_activations
        from fxtransport.tracing import graph as tracing
        from fxtransport.tracing.merge_modes import merge_modes
        from fxtransport.tracing.naming import name_layers, name_residuals

        opened = self._opened(unit)
        graph, tracer, origins = tracing.trace_mode(unit, opened, training=False)
        whole = tracing.keepable(unit, tracer, origins)
        if whole:
            graph, tracer, origins = tracing.trace_mode(unit, opened, training=False, whole=whole)
        if tracer.mode_branches:
            # the code asks whether it trains; see whether the answer changes the graph
            _, in_train, _ = tracing.trace_mode(unit, opened, training=True, whole=whole)
            origins = origins.with_choices(merge_modes(tracer, in_train))
        recording = unit.fact(Recording)
        tracing.check_aligned(recording, tracer.recorder)
        tracing.remove_unused(graph)
        tracing.sink_attributes(graph)
        return unit.with_graph(
            graph,
            origins,
            tracing.shapes_of(graph, tracer.values, unit.example),
            name_residuals(unit.fact(RecordedAdditions), origins),
            name_layers(unit.fact(RecordedLayers), recording, origins),
            find_activations(self.activations, unit, graph, origins, tracer.results),
        )

    def _opened(self, unit: Unit) -> frozenset[str]:
        from fxtransport.analysis.activations import modules_to_open
        from fxtransport.tracing.graph import with_parents

        paths = [a.path for a in unit.fact(RecordedAdditions).found if a.tapped]
        paths += unit.fact(RecordedLayers).containers
        # a node is given containers of its own, which its caller would not see changed
        paths += unit.fact(Recording).mutators
        paths += modules_to_open(self.activations, unit.model, unit.fact(Recording))
        for path in self.open:
            if path not in dict(unit.model.named_modules()):
                raise TraceError(f"cannot open {path!r}: the model has no such module")
        return with_parents([*paths, *self.open])
