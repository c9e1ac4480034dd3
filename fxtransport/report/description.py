"""What is known of a model on its way through the compiler, as data for JSON."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fxtransport.ir import Boundaries, Boundary, Layer, Layers, Residual, Residuals
from fxtransport.report.nodes import part_numbers

if TYPE_CHECKING:
    from fxtransport.unit import Unit


def description(unit: "Unit", canonical: str) -> dict[str, Any]:
    """Residuals, layers and boundaries of a model; what is not known yet is empty.

    Shapes are without the batch dimension.

    Args:
        unit: The model, and the facts so far.
        canonical: The name of the model.
    """
    parts = part_numbers(unit)
    residuals = unit.fact(Residuals).found if unit.has(Residuals) else ()
    layers = unit.fact(Layers).found if unit.has(Layers) else ()
    boundaries = unit.fact(Boundaries) if unit.has(Boundaries) else None
    legal = boundaries.legal if boundaries else ()
    return {
        "model": canonical,
        "input_shape": list(unit.example.tensors[0].shape[1:]),
        "parameters": sum(p.numel() for p in unit.model.parameters()),
        "nodes": 0 if unit.graph is None else len(unit.graph.nodes),
        "residuals": [_residual(r, parts) for r in residuals],
        "layers": [_layer(layer, parts) for layer in layers],
        "boundaries": [_boundary(b) for b in legal],
    }


def _residual(residual: Residual, parts: Mapping[str, int]) -> dict[str, Any]:
    return {
        "path": residual.path,
        "kind": str(residual.kind),
        "node": residual.node,
        "skip": residual.skip,
        "branch": " + ".join(residual.branch) or None,
        "shape": list(residual.shape),
        "stage": residual.stage,
        "module": parts[residual.node],
    }


def _layer(layer: Layer, parts: Mapping[str, int]) -> dict[str, Any]:
    return {
        "path": layer.path,
        "input": layer.input,
        "output": layer.output,
        "shape": list(layer.shape),
        "stage": layer.stage,
        "module": parts[layer.output],
    }


def _boundary(boundary: Boundary) -> dict[str, Any]:
    return {
        "after": boundary.after,
        "path": boundary.path,
        "units": boundary.units,
        "tensors": list(boundary.tensors),
        "crossing": list(boundary.crossing),
    }
