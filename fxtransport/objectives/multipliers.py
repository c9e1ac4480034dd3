"""Multipliers λ and τ: how a classification loss L and a transport cost C become one loss.

The multipliers of all parts are stored here, and :meth:`Multipliers.commit` alone changes them.
Everything that happens in a forward is a pure function of tensors: it reads no stored value and
does not wait for the device, so it compiles into one graph with a part's forward, which is not
compiled again when a multiplier changes.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

import torch
from torch import nn

from fxtransport.errors import UsageError

Order = Literal["code", "text"]
"""When a multiplier is updated: as in the authors' released code, or as in their text."""


class MultiplierState(NamedTuple):
    """The multiplier of one part at one moment."""

    value: torch.Tensor
    """λ or τ: 0-d, float64, without gradient."""
    steps: torch.Tensor
    """How many optimizer steps it has seen: 0-d, int64. 0 where it is constant."""


class Multipliers(nn.Module, ABC):
    """A rule by which L and C become one loss, and the multipliers of all parts."""

    penalizes: ClassVar[bool] = True
    """Whether the rule uses a transport cost."""

    @abstractmethod
    def state(self, part: int) -> MultiplierState | None:
        """The multiplier of a part; None if the rule has none.

        Args:
            part: The index of the part.

        Raises:
            UsageError: there is no multiplier for this part.
        """

    def commit(self, part: int, state: MultiplierState) -> None:
        """Store the multiplier of a part. Constants ignore it.

        Args:
            part: The index of the part.
            state: What :meth:`advance` returned.
        """

    def advance(self, state: MultiplierState, loss: torch.Tensor) -> MultiplierState:
        """The multiplier after one more optimizer step. Pure.

        Args:
            state: The multiplier before.
            loss: L of the step's batch, without gradient.
        """
        return state

    @abstractmethod
    def combine(
        self, loss: torch.Tensor, cost: torch.Tensor, state: MultiplierState
    ) -> torch.Tensor:
        """The loss of a part, a scalar, from its L, its C and its multiplier. Pure."""


class NoMultiplier(Multipliers):
    """L alone: end-to-end training without a cost, and VanGL."""

    penalizes = False

    def state(self, part: int) -> None:
        """None."""

    def combine(
        self, loss: torch.Tensor, cost: torch.Tensor, state: MultiplierState
    ) -> torch.Tensor:
        """L."""
        return loss


class _Stored(Multipliers):
    """Multipliers in buffers, which follow ``.to(device)`` and stay in float64.

    Args:
        values: The first multipliers.
        persistent: Whether they are part of the ``state_dict``.
    """

    values: torch.Tensor
    steps: torch.Tensor

    def __init__(self, values: Sequence[float], *, persistent: bool) -> None:
        super().__init__()
        stored = torch.tensor(values, dtype=torch.float64)
        self.register_buffer("values", stored, persistent)
        self.register_buffer("steps", torch.zeros(len(values), dtype=torch.int64), persistent)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Move to the device, and stay in float64."""
        device = fn(torch.empty(0, device=self.values.device)).device
        if device.type == "mps":
            # it has no float64; a scalar on the CPU can be combined with its tensors
            device = torch.device("cpu")
        self.values, self.steps = self.values.to(device), self.steps.to(device)
        return self


class FixedMultiplier(_Stored):
    """L + λ·C with a constant λ (THESIS F.3).

    Args:
        lambda0: λ, at least 0.

    Raises:
        UsageError: λ is negative or not finite.
    """

    def __init__(self, lambda0: float) -> None:
        super().__init__([_finite("lambda0", lambda0, at_least=0)], persistent=False)
        self.lambda0 = float(lambda0)

    def state(self, part: int) -> MultiplierState:
        """λ."""
        return MultiplierState(self.values[0], self.steps[0])

    def combine(
        self, loss: torch.Tensor, cost: torch.Tensor, state: MultiplierState
    ) -> torch.Tensor:
        """L + λ·C."""
        return loss + _like(state.value, cost) * cost

    def extra_repr(self) -> str:
        """The options."""
        return f"lambda0={self.lambda0}"


class TauMultipliers(_Stored):
    """L + C_k / (2τ_k), transport-regularized greedy learning (THESIS 4.2; BLOCK).

    Args:
        tau: τ of every part, above 0; or a sequence with one value for each part, such as
            ``(0.5, 0.5, 1.0, 1.0)``, in which the second half of the parts has twice the
            value (THESIS 4.4.3).

    Raises:
        UsageError: a value is not above 0, or there is none.
    """

    def __init__(self, tau: float | Sequence[float]) -> None:
        given = tuple(tau) if isinstance(tau, Sequence) else (tau,)
        if not given:
            raise UsageError("tau is empty; give a number, or one for each part")
        values = tuple(_finite("tau", value, above=0) for value in given)
        super().__init__(values, persistent=False)
        self.tau = values if isinstance(tau, Sequence) else values[0]

    def state(self, part: int) -> MultiplierState:
        """τ of a part.

        Raises:
            UsageError: there are fewer values than parts.
        """
        if isinstance(self.tau, float):
            return MultiplierState(self.values[0], self.steps[0])
        if part >= len(self.tau):
            raise UsageError(
                f"tau has {len(self.tau)} values, too few for part {part}: parts count from 0, "
                f"so give at least {part + 1}, one for each part"
            )
        return MultiplierState(self.values[part], self.steps[part])

    def combine(
        self, loss: torch.Tensor, cost: torch.Tensor, state: MultiplierState
    ) -> torch.Tensor:
        """L + C / (2τ)."""
        return loss + cost / _like(2 * state.value, cost)

    def extra_repr(self) -> str:
        """The options."""
        return f"tau={self.tau}"


class _AdaptiveMultipliers(_Stored):
    """A multiplier λ for each part, which grows with the part's loss.

    Multipliers and step counts are buffers, so they are saved and loaded. There are as many as
    parts that were committed; a part that was not has λ0.

    Args:
        lambda0: λ before the first step, above 0.
        lambda_rate: The loss times this is added to λ; at least 0.
        update_every: s, the number of steps between two updates, at least 1.
        order: ``code``: steps count from 1, and those that s divides update λ from their own
            loss and use it at once. ``text``: λ is updated after s steps from the first loss
            of the new parameters, and used from that batch on.

    Raises:
        UsageError: an option is out of range.
    """

    def __init__(
        self, lambda0: float, lambda_rate: float, update_every: int, order: Order = "code"
    ) -> None:
        super().__init__((), persistent=True)
        if order not in get_args(Order):
            raise UsageError(f"order must be 'code' or 'text', not {order!r}")
        if update_every < 1:
            raise UsageError(f"update_every must be at least 1, not {update_every}")
        self.lambda0 = _finite("lambda0", lambda0, above=0)
        self.lambda_rate = _finite("lambda_rate", lambda_rate, at_least=0)
        self.update_every = update_every
        self.order = order

    def state(self, part: int) -> MultiplierState:
        """λ of a part, copied."""
        if part < len(self.values):
            return MultiplierState(self.values[part].clone(), self.steps[part].clone())
        value = torch.full((), self.lambda0, dtype=torch.float64, device=self.values.device)
        return MultiplierState(value, torch.zeros_like(value, dtype=torch.int64))

    def commit(self, part: int, state: MultiplierState) -> None:
        """Store λ of a part; those before it that have none get λ0."""
        missing = part + 1 - len(self.values)
        if missing > 0:
            self.values = torch.cat([self.values, self.values.new_full((missing,), self.lambda0)])
            self.steps = torch.cat([self.steps, self.steps.new_zeros(missing)])
        self.values[part] = state.value
        self.steps[part] = state.steps

    def advance(self, state: MultiplierState, loss: torch.Tensor) -> MultiplierState:
        """λ += rate·L, if it is time. A loss that is not finite changes nothing."""
        loss = loss.to(state.value.device)
        steps = state.steps + 1
        # what counts in the text's order are the steps before this batch
        done = steps if self.order == "code" else state.steps
        is_time = (done > 0) & (done % self.update_every == 0)
        value = torch.where(is_time, state.value + self.lambda_rate * loss.double(), state.value)
        finite = torch.isfinite(loss)
        return MultiplierState(
            torch.where(finite, value, state.value), torch.where(finite, steps, state.steps)
        )

    def extra_repr(self) -> str:
        """The options."""
        return (
            f"lambda0={self.lambda0}, lambda_rate={self.lambda_rate}, "
            f"update_every={self.update_every}, order={self.order!r}"
        )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}values")
        if saved is not None:
            # as many parts as were saved
            self.values = self.values.new_zeros(len(saved))
            self.steps = self.steps.new_zeros(len(saved))
        super()._load_from_state_dict(state_dict, prefix, *args)


class LapMultipliers(_AdaptiveMultipliers):
    """L + C/λ with λ += τ·L every s steps: the least action principle.

    Uzawa's method of multipliers for the least C at L = 0 (LAP 5.3; THESIS 3.4).
    """

    def combine(
        self, loss: torch.Tensor, cost: torch.Tensor, state: MultiplierState
    ) -> torch.Tensor:
        """L + C/λ."""
        return loss + cost / _like(state.value, cost)


class TrglMultipliers(_AdaptiveMultipliers):
    """λ_k·L + C_k with λ_k += h·L_k every s steps (THESIS eq. 33)."""

    def combine(
        self, loss: torch.Tensor, cost: torch.Tensor, state: MultiplierState
    ) -> torch.Tensor:
        """λ_k·L + C_k."""
        return _like(state.value, loss) * loss + cost


def _like(value: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """A multiplier in a tensor's precision, on its device."""
    return value.to(tensor.dtype).to(tensor.device)


def _finite(
    name: str, value: float, above: float = -math.inf, at_least: float = -math.inf
) -> float:
    """A number, if it is finite and large enough."""
    if math.isfinite(value) and value > above and value >= at_least:
        return float(value)
    bound = f"above {above:g}" if above > -math.inf else f"at least {at_least:g}"
    raise UsageError(f"{name} must be a number {bound}, not {value}")
