"""What must hold before a schedule can train a program."""

from collections.abc import Collection, Sequence

import torch

from fxtransport.errors import UsageError
from fxtransport.objectives import Objective, ProjectionCost
from fxtransport.program import Part, Program
from fxtransport.training.schedules import Phase
from fxtransport.training.settings import TrainerSettings

_SHOWN = 3


def check_trainable(parts: Sequence[Part], phases: Sequence[Phase]) -> None:
    """Refuse parts that a schedule would not train correctly.

    Args:
        parts: The parts of the schedule, those that stay frozen included.
        phases: The phases of the schedule.

    Raises:
        UsageError: a part has nothing to train or no head; or two parts share parameters or
            buffers.
    """
    for k in sorted({k for phase in phases for k in phase.parts}):
        part = parts[k]
        name = f"part {part.index}" if len(parts) > 1 else "the program"
        if not any(p.requires_grad for p in part.parameters()):
            raise UsageError(f"{name} has no parameter that requires a gradient; freeze fewer")
        if not part.is_last and part.auxiliary_head is None:
            raise UsageError(
                f"{name} has no auxiliary head to train; compile the program with head='auto', "
                "or train it end to end"
            )
    _refuse_shared(parts)


def check_cost(program: Program, objective: Objective) -> None:
    """Refuse a program whose projection blocks an objective cannot measure.

    Raises:
        UsageError: there are none, or the program does not hand on their inputs.
    """
    if isinstance(objective.cost, ProjectionCost):
        objective.cost.check(program.facts.blocks)


def check_checkpointed(
    parts: Sequence[Part], trained: Collection[int], settings: TrainerSettings
) -> None:
    """Refuse to compute residual blocks again that are not there.

    Args:
        parts: The parts of the schedule.
        trained: The positions of those that train.
        settings: What they are to do.

    Raises:
        UsageError: no part has any, or one has fewer than it is to compute again; or there is not
            one number for each part.
    """
    if settings.checkpoint_activations and not any(parts[k].can_checkpoint for k in trained):
        raise UsageError(
            "checkpoint_activations computes residual blocks again, and what is trained has none "
            "that can be, beside those that the model checkpoints itself; train without it"
        )
    counts = settings.checkpoint_blocks
    if counts is None:
        return
    most = [part.checkpointable_blocks for part in parts]
    if len(counts) != len(parts):
        raise UsageError(
            f"checkpoint_blocks is {_listed(counts)}, and parts to train: {len(parts)}; give one "
            f"number for each, at most {_listed(most)}"
        )
    for part, count in zip(parts, counts, strict=True):
        if count > part.checkpointable_blocks:
            name = f"part {part.index}" if len(parts) > 1 else "the program"
            raise UsageError(
                f"checkpoint_blocks is {_listed(counts)}, and {name} has "
                f"{part.checkpointable_blocks} residual blocks that can be computed again, not "
                f"{count}; give at most {_listed(most)}"
            )


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def check_graphs(settings: TrainerSettings, device: torch.device) -> None:
    """Refuse CUDA graphs where there is no CUDA device.

    Raises:
        UsageError: the device is another one.
    """
    if settings.cuda_graphs and device.type != "cuda":
        raise UsageError(
            f"CUDA graphs need a CUDA device, and this run trains on {device}; train on a GPU, or "
            "without cuda_graphs"
        )


def _refuse_shared(parts: Sequence[Part]) -> None:
    owners: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for part in parts:
        for name, tensor in [*part.named_parameters(), *part.named_buffers()]:
            names.setdefault(id(tensor), name)
            owners.setdefault(id(tensor), []).append(part.index)
    shared = [
        f"{names[key]} (parts {', '.join(map(str, indices))})"
        for key, indices in owners.items()
        if len(indices) > 1
    ]
    if shared:
        more = f" and {len(shared) - _SHOWN} more" if len(shared) > _SHOWN else ""
        raise UsageError(
            "parts that train separately must not share parameters or buffers, but these are "
            f"shared: {', '.join(shared[:_SHOWN])}{more}; cut the program elsewhere (cuts=…), or "
            "train it end to end"
        )
