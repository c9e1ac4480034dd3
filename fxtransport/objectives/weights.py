"""How a classification loss L and a transport cost C are weighed against each other."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import nn

from fxtransport.errors import UsageError

Order = Literal["code", "text"]
"""When a multiplier is updated: as in the authors' released code, or as in their text."""


class Weighting(nn.Module, ABC):
    """A rule by which L and C become one number to minimise, for each module of a program."""

    penalises: ClassVar[bool] = True
    """Whether it has any use for a transport cost."""

    def prepare(self, modules: int) -> None:
        """Make state for as many modules as there are in all; what is there already stays."""

    def reach(self, module: int) -> None:
        """Make state for a module, if nobody prepared any.

        Raises:
            UsageError: the module's weight depends on how many modules there are in all.
        """

    def advance(self, loss: torch.Tensor, module: int) -> None:
        """Count an optimiser step of a module, and update its multiplier if it is time.

        Args:
            loss: L of the present batch, before the step.
            module: Whose.
        """

    @abstractmethod
    def weigh(self, loss: torch.Tensor, cost: torch.Tensor, module: int) -> torch.Tensor:
        """What a module minimises, a scalar, of its L and C."""

    @abstractmethod
    def weight(self, module: int) -> torch.Tensor | None:
        """A module's present λ or τ, a scalar without gradient; None if it has none."""


class NoCost(Weighting):
    """L alone: end-to-end training without a cost, and VanGL."""

    penalises = False

    def weigh(self, loss: torch.Tensor, cost: torch.Tensor, module: int) -> torch.Tensor:
        """L."""
        return loss

    def weight(self, module: int) -> None:
        """There is none."""


class Fixed(Weighting):
    """L + λ·C (THESIS F.3).

    Args:
        weight: λ, at least 0.

    Raises:
        UsageError: λ is negative or not a number.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.value = _finite("the weight of the transport cost", weight, at_least=0)

    def weigh(self, loss: torch.Tensor, cost: torch.Tensor, module: int) -> torch.Tensor:
        """L + λ·C."""
        return loss + self.value * cost

    def weight(self, module: int) -> torch.Tensor:
        """λ."""
        return torch.tensor(self.value, dtype=torch.float64)

    def extra_repr(self) -> str:
        """The option."""
        return f"weight={self.value}"


class Greedy(Weighting):
    """L + C_k / (2τ_k), transport-regularised greedy learning (THESIS 4.2; BLOCK).

    Args:
        tau: τ of every module, above 0.
        doubled: Give the modules of the second half 2τ (THESIS 4.4.3). Of an odd number,
            the one in the middle is in the first half.

    Raises:
        UsageError: τ is not above 0.
    """

    def __init__(self, tau: float, doubled: bool = False) -> None:
        super().__init__()
        self.tau = _finite("tau", tau, above=0)
        self.doubled = doubled
        self._in_all: int | None = None

    def prepare(self, modules: int) -> None:
        """Learn how many modules there are, and so which are the second half."""
        self._in_all = modules

    def reach(self, module: int) -> None:
        """See that it is known in which half a module is, where that matters."""
        if self.doubled and (self._in_all is None or module >= self._in_all):
            raise UsageError(
                "tau is doubled in the second half of the modules, so say how many there are: "
                "objective.prepare(len(program.parts))"
            )

    def weigh(self, loss: torch.Tensor, cost: torch.Tensor, module: int) -> torch.Tensor:
        """L + C / (2τ)."""
        return loss + cost / (2 * self._tau(module))

    def weight(self, module: int) -> torch.Tensor:
        """τ of the module."""
        return torch.tensor(self._tau(module), dtype=torch.float64)

    def _tau(self, module: int) -> float:
        second_half = self._in_all is not None and 2 * module >= self._in_all
        return 2 * self.tau if self.doubled and second_half else self.tau

    def extra_repr(self) -> str:
        """The options."""
        return f"tau={self.tau}, doubled={self.doubled}"


class _Multipliers(Weighting):
    """A multiplier λ for each module, which grows with the module's loss.

    Multipliers and step counts are buffers, so they are saved and loaded. They stay in
    float64 and on the CPU: there they weigh without a wait for the device, and are updated
    every s steps.

    Args:
        initial: λ before the first step, above 0.
        rate: What the loss is multiplied by when it is added, at least 0.
        every: s, the number of steps between two updates, at least 1.
        order: ``code``: iterations count from 1, and those that s divides update λ from
            their own loss and use it at once. ``text``: λ is updated after s steps from the
            first loss of the new parameters, and used from that batch on.

    Raises:
        UsageError: an option has a value that makes no sense.
    """

    multipliers: torch.Tensor
    iterations: torch.Tensor

    def __init__(self, initial: float, rate: float, every: int, order: Order = "code") -> None:
        super().__init__()
        if order not in get_args(Order):
            raise UsageError(f"order is code or text, not {order!r}")
        if every < 1:
            raise UsageError(f"a multiplier is updated every 1 step or more, not every {every}")
        self.initial = _finite("the initial multiplier", initial, above=0)
        self.rate = _finite("the rate of the multiplier", rate, at_least=0)
        self.every = every
        self.order = order
        self.register_buffer("multipliers", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("iterations", torch.zeros(0, dtype=torch.int64))

    def prepare(self, modules: int) -> None:
        """Give as many modules a multiplier each; those that have one keep it."""
        new = modules - len(self.multipliers)
        if new > 0:
            self.multipliers = torch.cat([self.multipliers, _filled(new, self.initial)])
            self.iterations = torch.cat([self.iterations, torch.zeros(new, dtype=torch.int64)])

    def reach(self, module: int) -> None:
        """Give a module, and those before it, a multiplier."""
        self.prepare(module + 1)

    def advance(self, loss: torch.Tensor, module: int) -> None:
        """λ += rate·L, if it is time. A loss that is not finite changes nothing."""
        self.iterations[module] += 1
        count = int(self.iterations[module])
        due = count % self.every == 0
        if self.order == "text":
            due = count > 1 and (count - 1) % self.every == 0
        if due and math.isfinite(value := loss.item()):
            self.multipliers[module] += self.rate * value

    def weight(self, module: int) -> torch.Tensor:
        """λ of the module."""
        # a copy, because the multiplier changes in place
        return self.multipliers[module].clone()

    def extra_repr(self) -> str:
        """The options."""
        return f"initial={self.initial}, rate={self.rate}, every={self.every}, order={self.order!r}"

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Stay in float64, and on the CPU."""
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}multipliers")
        if saved is not None:
            # as many modules as were saved
            self.multipliers = torch.zeros(len(saved), dtype=torch.float64)
            self.iterations = torch.zeros(len(saved), dtype=torch.int64)
        super()._load_from_state_dict(state_dict, prefix, *args)


class Multiplier(_Multipliers):
    """L + C/λ with λ += τ·L every s steps: the least action principle.

    Uzawa's method of multipliers for the least C at L = 0 (LAP 5.3; THESIS 3.4).
    """

    def weigh(self, loss: torch.Tensor, cost: torch.Tensor, module: int) -> torch.Tensor:
        """L + C/λ."""
        return loss + cost / self.multipliers[module].item()


class ModuleMultipliers(_Multipliers):
    """λ_k·L + C_k with λ_k += h·L_k every s steps (THESIS eq. 33)."""

    def weigh(self, loss: torch.Tensor, cost: torch.Tensor, module: int) -> torch.Tensor:
        """λ_k·L + C_k."""
        return self.multipliers[module].item() * loss + cost


def _filled(size: int, value: float) -> torch.Tensor:
    return torch.full((size,), value, dtype=torch.float64)


def _finite(
    what: str, value: float, above: float = -math.inf, at_least: float = -math.inf
) -> float:
    """A number, if it is finite and large enough."""
    if math.isfinite(value) and value > above and value >= at_least:
        return float(value)
    bound = f"above {above:g}" if above > -math.inf else f"at least {at_least:g}"
    raise UsageError(f"{what} is a number {bound}, not {value}")
