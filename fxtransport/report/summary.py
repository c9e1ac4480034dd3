"""What a program is and what its parts cost, as data for tables and JSON."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from fxtransport.ir import HeadSpec, Segment, Shapes
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
    parts = zip(program.parts, plan.segments, facts.heads.heads, strict=True)
    return {
        "model": canonical,
        "balance": str(plan.balance),
        "batch_size": batch_size,
        "unit": plan.unit,
        "modules": [
            _part(k, part.auxiliary_head, segment, head, facts.shapes)
            for k, (part, segment, head) in enumerate(parts)
        ],
        "bottleneck": plan.bottleneck,
        "lower_bound": plan.lower_bound,
        "imbalance": plan.imbalance,
        "cuts": [cut.path for cut in plan.cuts],
        "crossing": [list(cut.tensors) for cut in plan.cuts],
        "max_error": None if report is None else report.max_error,
    }


def _part(
    index: int, head: "nn.Module | None", segment: "Segment", spec: "HeadSpec", shapes: "Shapes"
) -> dict[str, Any]:
    reads = [segment.outputs[i] for i in spec.inputs]
    parameters, flops = _head_cost(head, reads, shapes)
    return {
        "index": index,
        "residuals": segment.residuals,
        "blocks": list(segment.blocks),
        "parameters": segment.parameters,
        "flops": segment.flops,
        "activation_bytes": segment.activation_bytes,
        "input_shapes": _shapes(segment.inputs, shapes),
        "output_shapes": _shapes(segment.outputs, shapes),
        "head": {"kind": str(spec.kind), "parameters": parameters, "flops": flops},
    }


def _head_cost(head: "nn.Module | None", reads: list[str], shapes: "Shapes") -> tuple[int, int]:
    """Parameters of an auxiliary head, and its operations for one sample."""
    if head is None:
        return 0, 0
    import copy

    import torch
    from torch.utils.flop_counter import FlopCounterMode

    hidden = [torch.empty(shapes.specs[name].shape, device="meta") for name in reads]
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(head).to(device="meta", dtype=torch.float32)(*hidden)
    parameters = sum(p.numel() for p in head.parameters())
    return parameters, counter.get_total_flops() // shapes.batch_size


def _shapes(names: tuple[str, ...], shapes: "Shapes") -> list[list[int]]:
    """The shapes of those values that are tensors, without the batch dimension."""
    return [list(shapes.specs[n].shape[1:]) for n in names if n in shapes.specs]
