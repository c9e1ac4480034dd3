"""What a program, or each of its parts, is trained for."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from fxtransport.errors import UsageError
from fxtransport.objectives.classification import Classification
from fxtransport.objectives.multipliers import Multipliers, MultiplierState
from fxtransport.outputs import LOGITS, find_logits
from fxtransport.residue import Measure


class Output(Protocol):
    """What a part of a program returns, as far as an objective reads it."""

    @property
    def logits(self) -> Any:
        """B×C, or what holds them."""

    @property
    def costs(self) -> torch.Tensor:
        """The cost of each residual block, 1-D."""


class Loss(NamedTuple):
    """The loss of a part on a batch, its terms, and the part's next multiplier."""

    total: torch.Tensor
    """The tensor to call ``backward`` on."""
    classification: torch.Tensor
    """L, without gradient."""
    transport: torch.Tensor | None
    """C, without gradient; None without a cost."""
    multiplier: torch.Tensor | None
    """The λ or τ of ``total``, without gradient; None where there is none."""
    next: MultiplierState | None
    """The multiplier after this batch, for :meth:`Objective.commit`; None where there is none."""


class Objective(nn.Module):
    """A classification loss L, a transport cost C = Σ_m C_m, and their multipliers.

    Calling an objective is a pure function of its arguments: it changes no multiplier.
    :meth:`state` reads the multiplier of a part, and :meth:`commit` stores its next one. Give
    ``objective.cost`` to the parts of a program, so that they measure what it needs::

        output = part(hidden, measure=objective.cost)
        loss = objective(output, targets, objective.state(part.index))
        loss.total.backward()
        objective.commit(part.index, loss.next)

    The multipliers are in its ``state_dict``, and move with ``objective.to(device)``.

    Args:
        classification: L, a function of logits and targets.
        cost: The cost of a residual block.
        multipliers: How L and C are combined.
    """

    def __init__(
        self, classification: Classification, cost: Measure, multipliers: Multipliers
    ) -> None:
        super().__init__()
        self.classification = classification
        self.multipliers = multipliers
        self._cost = cost

    @property
    def cost(self) -> Measure | None:
        """The cost of a residual block; None where nothing has to be measured."""
        return self._cost if self.multipliers.penalizes else None

    def state(self, part: int = 0) -> MultiplierState | None:
        """The multiplier of a part; None if the objective has none.

        Args:
            part: The index of the part; 0 for the whole program.

        Raises:
            UsageError: there is no τ for this part.
        """
        return self.multipliers.state(part)

    def forward(
        self,
        output: Output,
        targets: torch.Tensor,
        state: MultiplierState | None,
        advance: bool = True,
    ) -> Loss:
        """The loss of a part on a batch.

        Args:
            output: What the part returned.
            targets: Class indices, int64, B; or probabilities, B×C.
            state: The multiplier of the part, from :meth:`state`.
            advance: Whether the batch counts as an optimizer step. In eval mode it never does.
                Where gradients are accumulated, let the first batch advance, and give its
                ``loss.next`` to the others with ``advance=False``.

        Raises:
            UsageError: the output has no logits, the targets do not match them, or the state
                is missing.
        """
        loss = self.classification(logits_of(output.logits), targets)
        seen = loss.detach()
        if not self.multipliers.penalizes:
            return Loss(loss, seen, None, None, None)
        if state is None:
            raise UsageError("the objective has multipliers: give it objective.state(part.index)")
        if self.training and advance:
            state = self.multipliers.advance(state, seen)
        cost = output.costs.sum()
        total = self.multipliers.combine(loss, cost, state)
        return Loss(total, seen, cost.detach(), state.value, state)

    def commit(self, part: int, state: MultiplierState | None) -> None:
        """Store the multiplier of a part.

        Args:
            part: The index of the part.
            state: ``loss.next`` of the part's last batch.
        """
        if state is not None:
            self.multipliers.commit(part, state)

    def extra_repr(self) -> str:
        """L and C."""
        return f"classification={self.classification}, cost={self.cost}"


def logits_of(returned: Any) -> torch.Tensor:
    """The logits among what a model returns; see :func:`fxtransport.outputs.find_logits`.

    Raises:
        UsageError: there are none, or it is not clear which tensor they are.

    >>> logits_of({"out": torch.zeros(2, 3), "aux": torch.zeros(2, 3)}).shape
    torch.Size([2, 3])
    """
    if returned is None:
        raise UsageError(
            "the part returned no logits: it has no auxiliary head (head='none'), or the head "
            "was not run (head=False)"
        )
    found = find_logits(returned, lambda value: isinstance(value, torch.Tensor))
    if not isinstance(found, torch.Tensor):
        raise UsageError(
            f"the model returns {type(returned).__name__}, which has no tensor named "
            f"{' or '.join(LOGITS)}; wrap the model in a module that returns the logits alone"
        )
    return found
