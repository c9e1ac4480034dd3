"""How much of the gradient is the transport cost's, and a warning where that is next to nothing."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fxtransport.objectives import Objective
from fxtransport.objectives.objective import logits_of
from fxtransport.program import Part, Program
from fxtransport.randomness import fork_rng
from fxtransport.training.devices import move_to
from fxtransport.training.reports import EpochReport, Observer, Position, StepReport
from fxtransport.training.schedules import Phase, Schedule
from fxtransport.training.steps import detach

PROBED = (10, 25, 50)
"""After how many steps of a phase the gradients are compared, if it has as many."""
NEGLIGIBLE = 0.005
"""A share of the gradient below which a cost changes next to nothing."""


class NegligibleCostWarning(UserWarning):
    """The transport cost has next to no part in the gradient."""


class CostWatch(Observer):
    """Warns where the share of the transport cost in the gradient stays negligible.

    The share of a part is ‖∇C‖/(‖∇C‖ + ‖∇L‖), of the two terms as they are weighted in its loss,
    over the parameters that C reaches, on a few samples. It is measured some steps after a
    phase begins; nothing that training uses is changed.

    Args:
        program: What is trained.
        objective: What it minimizes.
        schedule: By which schedule.
        inputs: A few samples.
        targets: N classes, or N×classes probabilities.
        remedy: What to do; it is the end of the warning.
        tell: Is told of it; None: a :class:`NegligibleCostWarning` is issued.
    """

    def __init__(
        self,
        program: Program,
        objective: Objective,
        schedule: Schedule,
        inputs: Any,
        targets: Tensor,
        remedy: str,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._tell = tell or _warn
        self._parts = schedule.parts_of(program)
        self._objective = objective
        self._batch = inputs, targets
        self._remedy = remedy
        self._phase: Phase | None = None
        self._steps = 0
        self._highest: dict[int, float] = {}
        self._done = objective.cost is None

    def on_phase(self, phase: Phase, position: Position) -> None:
        """Begin to count the steps of the phase."""
        self._phase, self._steps, self._highest = phase, 0, {}

    def on_step(self, step: StepReport, position: Position) -> None:
        """Measure after some steps."""
        self._steps += 1
        if not self._done and self._steps in PROBED:
            self._probe(last=self._steps == PROBED[-1])

    def on_epoch(self, epoch: EpochReport) -> None:
        """Measure for the last time, if the phase ends with this epoch after few steps."""
        ends = epoch.position.epoch == 0
        if ends and not self._done and PROBED[0] <= self._steps < PROBED[-1]:
            self._probe(last=True)

    def _probe(self, *, last: bool) -> None:
        assert self._phase is not None
        for part, share in cost_shares(
            self._parts, self._phase.parts, self._objective, *self._batch
        ).items():
            self._highest[part] = max(share, self._highest.get(part, 0.0))
        if not last or not self._highest:
            return
        # another phase trains other parts, of which as much is true
        self._done = True
        highest = max(self._highest.values())
        if highest < NEGLIGIBLE:
            self._tell(
                f"the transport cost has {100 * highest:.2g} % of the gradient after "
                f"{self._steps} steps, so it changes next to nothing: {self._remedy}"
            )


def _warn(text: str) -> None:
    warnings.warn(NegligibleCostWarning(text), stacklevel=4)


def cost_shares(
    parts: Sequence[Part],
    trained: Sequence[int],
    objective: Objective,
    inputs: Any,
    targets: Tensor,
) -> dict[int, float]:
    """The share of the transport cost in the gradient of each part that trains.

    Args:
        parts: The parts of a schedule, in the modes in which they train.
        trained: Which of them train.
        objective: What they minimize, with a cost.
        inputs: N samples.
        targets: N classes, or N×classes probabilities.

    Returns:
        A number from 0 to 1 for each part that has a cost to minimize, by its place in ``parts``.
    """
    device = next(parts[trained[0]].parameters()).device
    hidden, goal = move_to(inputs, device), targets.to(device)
    found: dict[int, float] = {}
    with fork_rng(0), _same_buffers(parts):
        for k, part in enumerate(parts[: trained[-1] + 1]):
            with torch.set_grad_enabled(k in trained):
                output = part(hidden, measure=objective.cost)
            if k in trained and output.costs.requires_grad:
                share = _share(part, objective, output, goal)
                found |= {} if share is None else {k: share}
            hidden = None if part.is_last else detach(output.hidden)
            del output
    return found


def _share(part: Part, objective: Objective, output: Any, targets: Tensor) -> float | None:
    """The share of the cost; None where neither term has a gradient."""
    state = objective.state(part.index)
    assert state is not None
    loss = objective.classification(logits_of(output.logits), targets)
    nothing = torch.zeros_like(loss)
    terms: tuple[Callable[[], Tensor], ...] = (
        lambda: objective.multipliers.combine(nothing, output.costs.sum(), state),
        lambda: objective.multipliers.combine(loss, nothing, state),
    )
    weights = [p for p in part.parameters() if p.requires_grad]
    reached = _reached(terms[0](), weights)
    if not reached:
        return None
    cost, rest = (
        float(
            nn.utils.get_total_norm(
                torch.autograd.grad(term(), reached, retain_graph=True, materialize_grads=True)
            )
        )
        for term in terms
    )
    return cost / (cost + rest) if cost + rest > 0 else None


def _reached(cost: Tensor, weights: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """The weights on which a cost depends."""
    found: Sequence[Any] = torch.autograd.grad(cost, weights, retain_graph=True, allow_unused=True)
    return [weight for weight, grad in zip(weights, found, strict=True) if grad is not None]


@contextmanager
def _same_buffers(parts: Sequence[nn.Module]) -> Iterator[None]:
    """A context after which buffers, such as the statistics of batch norms, are as before."""
    buffers = [buffer for part in parts for buffer in part.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
