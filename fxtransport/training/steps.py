"""One optimizer step of one part, and of several in turn (DGL; THESIS 4.3).

Memory is what training part by part saves, so the graph of a part is freed before the next
part runs: nothing here keeps outputs, logits or losses with a graph beyond the backward pass.
A part hands on what it computed before its step, without graph.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from fxtransport.errors import TrainingError
from fxtransport.objectives import MultiplierState, Objective
from fxtransport.objectives.objective import logits_of
from fxtransport.objectives.transfer import Reference, Regularizer
from fxtransport.training.learner import Learner, autocast, batch_accuracy
from fxtransport.training.reports import PartStep


class LossError(TrainingError):
    """A loss is not a finite number.

    Args:
        part: The part that it is of, by the index of its exit.
        value: Its value.
        step: The step that it is of; None: the present one.
    """

    def __init__(self, part: int, value: float, step: int | None = None) -> None:
        super().__init__(f"the loss of part {part} is {value}")
        self.part = part
        self.value = value
        self.step = step


class Guidance(NamedTuple):
    """What parts are kept near to, beside what they minimize."""

    regularizer: Regularizer
    references: Sequence[Reference | None]
    """What the teacher says of each piece of the batch."""


def sweep(
    learners: Sequence[Learner],
    objective: Objective,
    hidden: Iterable[Any],
    targets: Sequence[torch.Tensor],
    amp: str | None = None,
    guidance: Guidance | None = None,
) -> tuple[tuple[PartStep, ...], list[Any]]:
    """One optimizer step of each part, in turn.

    To save memory, call it with what no variable refers to; a piece is freed as soon as the
    first part has read it.

    Args:
        learners: The parts, in order, each reading what the one before hands on.
        objective: What each minimizes.
        hidden: What the first part reads, as pieces of a batch.
        targets: The classes or probabilities of each piece.
        amp: ``bf16``, ``fp16``, or None.
        guidance: A regularizer, and its references for this batch; None without one.

    Returns:
        The steps, and what the last part hands on: a hidden state without graph for each
        piece, None after the last part of a program.

    Raises:
        LossError: on the CPU, a loss is not finite. The part has made no step.
    """
    steps = []
    hidden = list(hidden)
    for learner in learners:
        step, hidden = train_part(learner, objective, drain(hidden), targets, amp, guidance)
        steps.append(step)
    return tuple(steps), hidden


def train_part(
    learner: Learner,
    objective: Objective,
    hidden: Iterable[Any],
    targets: Sequence[torch.Tensor],
    amp: str | None = None,
    guidance: Guidance | None = None,
) -> tuple[PartStep, list[Any]]:
    """One optimizer step of a part.

    Args:
        learner: The part.
        objective: What it minimizes.
        hidden: What it reads, as pieces of a batch.
        targets: The classes or probabilities of each piece.
        amp: ``bf16``, ``fp16``, or None.
        guidance: A regularizer, and its references for this batch; None without one.

    Returns:
        The step, and what the part hands on: a hidden state without graph for each piece,
        None after the last part of a program.

    Raises:
        LossError: on the CPU, the loss is not finite. The part has made no step.
    """
    samples = sum(len(piece) for piece in targets)
    shares = [len(piece) / samples for piece in targets]
    pieces, steps, left = iter(hidden), [], []
    state = objective.state(learner.part.index)
    for i, (goal, share) in enumerate(zip(targets, shares, strict=True)):
        # of a batch in pieces, the first advances the multiplier, and the others use it
        reference = None if guidance is None else guidance.references[i]
        batch = _Batch(goal, share, advance=i == 0, reference=reference)
        goals = _Goals(objective, None if guidance is None else guidance.regularizer, amp)
        step, state, after = _train_piece(learner, goals, next(pieces), batch, state)
        steps.append(step)
        left.append(after)
    learner.step()
    objective.commit(learner.part.index, state)
    return _mean(steps, shares), left


def drain(pieces: list[Any]) -> Iterator[Any]:
    """The elements of a list, each removed from the list before it is read."""
    pieces.reverse()
    while pieces:
        yield pieces.pop()


class _Batch(NamedTuple):
    """A piece of a batch."""

    targets: torch.Tensor
    share: float
    """Its part of the batch's samples."""
    advance: bool
    """Whether it advances the multiplier."""
    reference: Reference | None
    """What a teacher says of it."""


class _Goals(NamedTuple):
    """What a part minimizes, and in which precision it runs."""

    objective: Objective
    regularizer: Regularizer | None
    amp: str | None


def _train_piece(
    learner: Learner,
    goals: _Goals,
    hidden: Any,
    batch: _Batch,
    state: MultiplierState | None,
) -> tuple[PartStep, MultiplierState | None, Any]:
    """Forward and backward of one piece of a batch: the step, the multiplier, what is left."""
    objective, regularizer, amp = goals
    penalties = {}
    if regularizer is None:
        left, loss, accuracy = learner.minimize(
            objective, hidden, batch.targets, state, batch.advance
        )
    else:
        with autocast(batch.targets.device, amp):
            output = learner.run(hidden, measure=regularizer.measures(objective.cost))
        # outside of autocast: sums of squares need more than half precision
        output, penalties = regularizer(learner.part, output, batch.reference)
        with autocast(batch.targets.device, amp):
            loss = objective(output, batch.targets, state, advance=batch.advance)
        accuracy = batch_accuracy(logits_of(output.logits), batch.targets)
        left = output.hidden
        del output
    # the input is no longer needed, unless the graph has saved it
    hidden = None if learner.part.is_last else detach(left)
    step = learner.report(
        PartStep(
            learner.part.exit,
            loss.total.detach(),
            loss.classification,
            loss.transport,
            loss.multiplier,
            {name: value.detach() for name, value in penalties.items()},
            accuracy,
        )
    )
    state = loss.next
    total = loss.total
    if regularizer is not None and penalties:
        total = total + regularizer.total(penalties)
        step = replace(step, loss=total.detach())
    total = total if batch.share == 1 else total * batch.share
    # the total alone holds the graph, and backward frees it from there
    del left, loss, penalties
    if total.device.type == "cpu":
        require_finite(learner.part.exit, total)
    learner.scaler.scale(total).backward()
    return step, state, hidden


def require_finite(part: int, loss: torch.Tensor) -> None:
    """See that the loss of a part is a finite number.

    Raises:
        LossError: it is not.
    """
    if not math.isfinite(value := loss.item()):
        raise LossError(part, value)


def detach(hidden: Any) -> Any:
    """A hidden state, a tensor or a tuple of values, without its graph."""
    if isinstance(hidden, tuple):
        return tuple(map(detach, hidden))
    return hidden.detach() if isinstance(hidden, torch.Tensor) else hidden


def split(batch: Any, pieces: int) -> list[Any]:
    """A batch, a tensor or a tuple of tensors, in this many pieces, or fewer if it is small."""
    if pieces == 1:
        return [batch]
    if isinstance(batch, tuple):
        return list(zip(*(split(values, pieces) for values in batch), strict=True))
    return list(batch.chunk(pieces))


def _mean(steps: Sequence[PartStep], shares: Sequence[float]) -> PartStep:
    """The step of a batch, from those of its pieces."""
    if len(steps) == 1:
        return steps[0]

    def mean(name: str) -> torch.Tensor:
        values = [getattr(step, name) * share for step, share in zip(steps, shares, strict=True)]
        return torch.stack(values).sum()

    penalties = {
        name: torch.stack(
            [step.penalties[name] * share for step, share in zip(steps, shares, strict=True)]
        ).sum()
        for name in steps[0].penalties
    }
    return PartStep(
        steps[0].part,
        mean("loss"),
        mean("classification"),
        None if steps[0].transport is None else mean("transport"),
        steps[0].multiplier,
        penalties,
        None if steps[0].accuracy is None else mean("accuracy"),
    )
