"""What a program is and what its parts cost, as data for tables and JSON."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fxtransport.ir import HeadCost, HeadSpec, Segment, Shapes
    from fxtransport.program import Program


def summary(program: "Program", canonical: str, batch_size: int) -> dict[str, Any]:
    """The parts of a program, what each costs, and where the cuts are.

    Shapes are without the batch dimension, FLOPs those of one sample.

    Args:
        program: The program.
        canonical: The name of its model.
        batch_size: The batch size for which activations were counted.
    """
    facts = program.facts
    plan, report = facts.partition, facts.verification
    heads = facts.heads
    return {
        "model": canonical,
        "balance": str(plan.balance),
        "batch_size": batch_size,
        "unit": plan.unit,
        "modules": [
            _part(k, segment, heads.heads[k], heads.costs[k], facts.shapes)
            for k, segment in enumerate(plan.segments)
        ],
        "bottleneck": plan.bottleneck,
        "lower_bound": plan.lower_bound,
        "imbalance": plan.imbalance,
        "cuts": [cut.path for cut in plan.cuts],
        "crossing": [list(cut.tensors) for cut in plan.cuts],
        "max_error": None if report is None else report.max_error,
    }


def _part(
    index: int, segment: "Segment", head: "HeadSpec", cost: "HeadCost", shapes: "Shapes"
) -> dict[str, Any]:
    return {
        "index": index,
        "residuals": segment.residuals,
        "blocks": list(segment.blocks),
        "parameters": segment.parameters,
        "flops": segment.flops,
        "activation_bytes": segment.activation_bytes,
        "peak_bytes": segment.peak_bytes,
        "submodules": segment.submodules,
        "input_shapes": _shapes(segment.inputs, shapes),
        "output_shapes": _shapes(segment.outputs, shapes),
        "head": {"kind": str(head.kind), **asdict(cost)},
    }


def _shapes(names: tuple[str, ...], shapes: "Shapes") -> list[list[int]]:
    """The shapes of those values that are tensors, without the batch dimension."""
    return [list(shapes.specs[n].shape[1:]) for n in names if n in shapes.specs]
