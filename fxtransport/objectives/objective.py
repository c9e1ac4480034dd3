"""What a program, or each of its modules, is trained for."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from fxtransport.errors import UsageError
from fxtransport.objectives.classification import Classification
from fxtransport.objectives.weights import Weighting
from fxtransport.residue import Measure

_LOGITS = ("logits", "out")
"""Under which names a model returns its logits among other things."""


class Output(Protocol):
    """What a module of a program returns, as far as an objective reads it."""

    @property
    def logits(self) -> Any:
        """B×C, or what holds them."""

    @property
    def costs(self) -> torch.Tensor:
        """What each residual block costs, 1-D."""


class Loss(NamedTuple):
    """What a module minimises on a batch, and what it is made of."""

    total: torch.Tensor
    """To call ``backward`` on."""
    classification: torch.Tensor
    """L, without gradient."""
    transport: torch.Tensor | None
    """C, without gradient; None where no cost is taken."""
    weight: torch.Tensor | None
    """λ or τ, without gradient; None where there is none."""


class Objective(nn.Module):
    """A classification loss L and a transport cost C = Σ_m C_m, and how they are weighed.

    Its ``state_dict`` holds the multipliers, one for each module. Give ``objective.cost`` to
    the modules of a program, so that they measure what it needs, and no more::

        output = part(hidden, measure=objective.cost)
        objective(output, targets, module=part.index).total.backward()

    Args:
        classification: L, of logits and targets.
        cost: What each residual block costs.
        weighting: How the two are weighed.
    """

    def __init__(self, classification: Classification, cost: Measure, weighting: Weighting) -> None:
        super().__init__()
        self.classification = classification
        self.weighting = weighting
        self._cost = cost

    @property
    def cost(self) -> Measure | None:
        """What a residual block costs; None where nothing is to be measured."""
        return self._cost if self.weighting.penalises else None

    def prepare(self, modules: int) -> None:
        """Make the state of as many modules as there are; what is there already stays.

        Trainers call it. A loop of your own needs it only where τ is doubled in the second
        half of the modules.
        """
        self.weighting.prepare(modules)

    def forward(
        self, output: Output, targets: torch.Tensor, module: int = 0, update: bool = True
    ) -> Loss:
        """What a module minimises on a batch.

        Args:
            output: What the module returned.
            targets: Class indices, int64, B; or probabilities, B×C.
            module: Which module it is.
            update: Whether the multiplier counts this batch as an optimiser step, in train
                mode. Where gradients are accumulated, only the first batch of a step does.

        Raises:
            UsageError: the output has no logits, or the targets do not fit to them, or τ is
                doubled in a second half that is not known yet.
        """
        self.weighting.reach(module)
        loss = self.classification(logits_of(output.logits), targets)
        if self.training and update:
            self.weighting.advance(loss.detach(), module)
        weight = self.weighting.weight(module)
        if not self.weighting.penalises:
            return Loss(loss, loss.detach(), None, weight)
        cost = output.costs.sum()
        total = self.weighting.weigh(loss, cost, module)
        return Loss(total, loss.detach(), cost.detach(), weight)

    def extra_repr(self) -> str:
        """L and C."""
        return f"classification={self.classification}, cost={self.cost}"


def logits_of(returned: Any) -> torch.Tensor:
    """The logits among what a model returns.

    Raises:
        UsageError: it is not clear which tensor they are, or there are none.

    >>> logits_of({"out": torch.zeros(2, 3), "aux": torch.zeros(2, 3)}).shape
    torch.Size([2, 3])
    """
    if isinstance(returned, torch.Tensor):
        return returned
    if returned is None:
        raise UsageError(
            "the module has no logits: its auxiliary head was left out (head='none') or not run"
        )
    for name in _LOGITS:
        found = returned.get(name) if isinstance(returned, Mapping) else None
        found = getattr(returned, name, None) if found is None else found
        if isinstance(found, torch.Tensor):
            return found
    raise UsageError(
        f"the model returns {type(returned).__name__}, in which nothing is called "
        f"{' or '.join(_LOGITS)}; wrap it in a module that returns the logits alone"
    )
