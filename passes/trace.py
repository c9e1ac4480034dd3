"""Trace the model into one graph that opens only what holds a residual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fxtransport.errors import TraceError
from fxtransport.ir import (
    Activations,
    Checkpoints,
    Constructs,
    Layers,
    Origins,
    RecordedAdditions,
    RecordedLayers,
    Recording,
    Residuals,
    Shapes,
    WatchedAttributes,
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
        Constructs,
        WatchedAttributes,
        Checkpoints,
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
        from fxtransport.tracing.contexts import remove_spare_casts
        from fxtransport.tracing.graph import remove_unused, shapes_of, sink_attributes
        from fxtransport.tracing.naming import name_layers, name_residuals
        from fxtransport.tracing.traced import trace_model

        traced = trace_model(unit, self._opened(unit))
        graph, origins, tracer = traced.graph, traced.origins, traced.tracer
        remove_spare_casts(graph, unit.model)
        remove_unused(graph)
        sink_attributes(graph)
        residuals = name_residuals(unit.fact(RecordedAdditions), origins)
        _refuse_conditional(residuals, traced.merged.conditional)
        shapes = shapes_of(graph, tracer.values, unit.example)
        layers = unit.fact(RecordedLayers)
        return unit.with_graph(
            graph,
            origins,
            shapes,
            residuals,
            name_layers(layers, unit.fact(Recording), origins, shapes.specs),
            find_activations(self.activations, unit, graph, origins, tracer.results),
            traced.constructs,
            traced.watched,
            traced.checkpoints,
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
        return with_parents([*paths, *self.open], unit.model)


def _refuse_conditional(residuals: Residuals, conditional: frozenset[str]) -> None:
    for residual in residuals.tapped:
        if residual.node in conditional:
            raise TraceError(
                f"{residual.path or 'the model'} adds its residual in eval mode only, or by "
                "another call than in train mode, so there is nothing to measure in training; "
                "add it by the same call in both modes"
            )
