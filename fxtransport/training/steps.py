"""One optimiser step of one module, and of several in turn (DGL; THESIS 4.3).

Memory is what module-wise training saves, so a module's graph dies before the next module
runs: nothing here keeps outputs, logits or losses with a graph beyond the backward pass. What
is handed on is what the module computed before its step, detached.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from fxtransport.errors import TrainingError
from fxtransport.objectives import Objective
from fxtransport.training.learner import Learner
from fxtransport.training.reports import ModuleStep

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class LossError(TrainingError):
    """A loss is not a finite number.

    Args:
        module: Whose.
        value: Its value.
        step: In which step; None: in the present one.
    """

    def __init__(self, module: int, value: float, step: int | None = None) -> None:
        super().__init__(f"the loss of module {module} is {value}")
        self.module = module
        self.value = value
        self.step = step


def autocast(device: torch.device, amp: str | None) -> torch.autocast:
    """A context in which the forward runs in a lower precision, if ``amp`` names one."""
    dtype = AMP_DTYPES[amp] if amp else None
    return torch.autocast(device.type, dtype=dtype, enabled=amp is not None)


def sweep(
    learners: Sequence[Learner],
    objective: Objective,
    pieces: list[Any],
    targets: Sequence[torch.Tensor],
    amp: str | None = None,
) -> tuple[ModuleStep, ...]:
    """One optimiser step of each module, in turn.

    Args:
        learners: The modules, in order, each reading what the one before hands on.
        objective: What each minimises.
        pieces: What the first module reads, as pieces of a batch. The list is used up.
        targets: The classes or probabilities of each piece.
        amp: ``bf16``, ``fp16``, or None.

    Raises:
        LossError: on the CPU, a loss is not finite. This module has made no step.
    """
    return tuple(train_module(learner, objective, pieces, targets, amp) for learner in learners)


def train_module(
    learner: Learner,
    objective: Objective,
    pieces: list[Any],
    targets: Sequence[torch.Tensor],
    amp: str | None = None,
) -> ModuleStep:
    """One optimiser step of a module.

    Args:
        learner: The module.
        objective: What it minimises.
        pieces: What it reads, as pieces of a batch; each is replaced by the detached hidden
            state that the next module reads (None behind the last).
        targets: The classes or probabilities of each piece.
        amp: ``bf16``, ``fp16``, or None.

    Raises:
        LossError: on the CPU, the loss is not finite. The module has made no step.
    """
    samples = sum(len(piece) for piece in targets)
    done = []
    for i, piece in enumerate(targets):
        share = len(piece) / samples
        done.append(_train_piece(learner, objective, pieces, i, piece, share, amp))
    learner.step()
    if len(done) == 1:
        return done[0]
    return _mean(done, [len(piece) / samples for piece in targets])


def _train_piece(
    learner: Learner,
    objective: Objective,
    pieces: list[Any],
    i: int,
    targets: torch.Tensor,
    share: float,
    amp: str | None,
) -> ModuleStep:
    """Forward and backward of one piece of a batch."""
    with autocast(targets.device, amp):
        output = learner.run(pieces[i], measure=objective.cost)
        # of a batch in pieces, the first advances the multipliers
        loss = objective(output, targets, module=learner.index, update=i == 0)
    pieces[i] = None if learner.part.is_last else detached(output.hidden)
    done = ModuleStep(
        learner.exit,
        loss.total.detach(),
        loss.classification.detach(),
        loss.transport,
        loss.weight,
    )
    total = loss.total if share == 1 else loss.total * share
    # the graph is held by the total alone, and backward frees it from there
    del output, loss
    if total.device.type == "cpu":
        require_finite(learner.exit, total)
    learner.scaler.scale(total).backward()
    return done


def require_finite(module: int, loss: torch.Tensor) -> None:
    """See that a loss is a finite number.

    Raises:
        LossError: it is not.
    """
    if not math.isfinite(value := loss.item()):
        raise LossError(module, value)


def detached(hidden: Any) -> Any:
    """A hidden state, a tensor or a tuple of values, without its graph."""
    if isinstance(hidden, tuple):
        return tuple(map(detached, hidden))
    return hidden.detach() if isinstance(hidden, torch.Tensor) else hidden


def split(batch: Any, pieces: int) -> list[Any]:
    """A batch, a tensor or a tuple of tensors, in as many pieces, or fewer if it is small."""
    if pieces == 1:
        return [batch]
    if isinstance(batch, tuple):
        return list(zip(*(split(values, pieces) for values in batch), strict=True))
    return list(batch.chunk(pieces))


def _mean(steps: Sequence[ModuleStep], shares: Sequence[float]) -> ModuleStep:
    def mean(name: str) -> torch.Tensor:
        values = [getattr(step, name) * share for step, share in zip(steps, shares, strict=True)]
        return torch.stack(values).sum()

    return ModuleStep(
        steps[0].module,
        mean("loss"),
        mean("classification"),
        None if steps[0].transport is None else mean("transport"),
        steps[0].weight,
    )
