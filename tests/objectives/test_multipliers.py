"""Multipliers of loss and cost: worked out by hand, saved, loaded and refused."""

import copy
import io
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load, save

from fxtransport.errors import UsageError
from fxtransport.objectives import (
    FixedMultiplier,
    LapMultipliers,
    Loss,
    Multipliers,
    NoMultiplier,
    Objective,
    TauMultipliers,
    TransportCost,
    TrglMultipliers,
    lap,
)


def read_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A loss that is what the logits say."""
    return logits.sum()


def objective_of(multipliers: Multipliers) -> Objective:
    return Objective(read_loss, TransportCost(), multipliers)


def losses_of(
    objective: Objective, losses: list[float], cost: float, part: int = 0, **options: bool
) -> list[Loss]:
    """The losses of steps whose L is given; C is the sum of the costs of two blocks."""
    costs, found = torch.tensor([0.25 * cost, 0.75 * cost]), []
    for value in losses:
        output = SimpleNamespace(logits=torch.tensor([value]), costs=costs)
        found.append(objective(output, torch.zeros(1), objective.state(part), **options))
        objective.commit(part, found[-1].next)
    return found


def multipliers_of(found: list[Loss]) -> list[float]:
    return [loss.multiplier.item() for loss in found if loss.multiplier is not None]


def test_order_of_the_code() -> None:
    """Updated on steps 2, 4, ..., from their own loss, and used at once."""
    found = losses_of(objective_of(LapMultipliers(1, 0.5, 2)), [8, 4, 2, 6, 9], cost=12)
    assert multipliers_of(found) == [1, 3, 3, 6, 6]
    assert [loss.total.item() for loss in found] == [20, 8, 6, 8, 11]
    assert [loss.classification.item() for loss in found] == [8, 4, 2, 6, 9]
    assert all(loss.transport is not None and loss.transport.item() == 12 for loss in found)


def test_order_of_the_text() -> None:
    """Updated after 2, 4, ... steps, from the first loss of the new parameters."""
    found = losses_of(objective_of(LapMultipliers(1, 0.5, 2, "text")), [8, 4, 2, 6, 9], cost=12)
    assert multipliers_of(found) == [1, 1, 2, 2, 6.5]
    assert [loss.total.item() for loss in found[:4]] == [20, 16, 8, 12]


def test_orders_differ_with_updates_at_every_step() -> None:
    code = losses_of(objective_of(LapMultipliers(1, 1, 1, "code")), [1, 2, 3], cost=1)
    text = losses_of(objective_of(LapMultipliers(1, 1, 1, "text")), [1, 2, 3], cost=1)
    assert multipliers_of(code) == [2, 4, 7]
    assert multipliers_of(text) == [1, 3, 6]


def test_each_part_has_a_multiplier() -> None:
    """λ_k·L + C_k, λ_k += h·L_k (THESIS eq. 33)."""
    objective = objective_of(TrglMultipliers(1, 1, 2))
    first = losses_of(objective, [2, 3], cost=10, part=0)
    third = losses_of(objective, [5, 5, 5], cost=10, part=2)
    assert [loss.total.item() for loss in first] == [12, 4 * 3 + 10]
    assert multipliers_of(third) == [1, 6, 6]
    assert objective.state_dict()["multipliers.values"].tolist() == [4, 1, 6]
    assert objective.state_dict()["multipliers.steps"].tolist() == [2, 0, 3]


def test_tau_of_all_parts_and_of_each() -> None:
    """L + C/(2τ)."""
    same = objective_of(TauMultipliers(0.5))
    assert [losses_of(same, [3], cost=2, part=k)[0].total.item() for k in (0, 7)] == [5, 5]
    each = objective_of(TauMultipliers([0.5, 0.5, 1]))
    found = [losses_of(each, [0], cost=8, part=k)[0] for k in range(3)]
    assert [loss.total.item() for loss in found] == [8, 8, 4]
    assert multipliers_of(found) == [0.5, 0.5, 1]


def test_too_few_tau_are_refused() -> None:
    objective = objective_of(TauMultipliers([0.5, 1]))
    with pytest.raises(UsageError, match=r"tau has 2 values, too few for part 2: .* at least 3"):
        objective.state(2)


def test_a_fixed_multiplier_and_none() -> None:
    loss = losses_of(objective_of(FixedMultiplier(0.1)), [3], cost=20)[0]
    assert (loss.total.item(), loss.multiplier and loss.multiplier.item()) == (5, 0.1)
    loss = losses_of(objective_of(NoMultiplier()), [3], cost=20)[0]
    assert (loss.total.item(), loss.transport, loss.multiplier, loss.next) == (3, None, None, None)


def test_constants_have_no_state_to_save() -> None:
    for multipliers in (FixedMultiplier(1), TauMultipliers([1, 2]), NoMultiplier()):
        assert not objective_of(multipliers).state_dict()


def test_evaluation_and_accumulation_count_no_step() -> None:
    objective = objective_of(LapMultipliers(1, 1, 1))
    assert multipliers_of(losses_of(objective, [5], cost=1, advance=False)) == [1]
    assert multipliers_of(losses_of(objective.eval(), [5], cost=1)) == [1]
    assert multipliers_of(losses_of(objective.train(), [5], cost=1)) == [6]
    assert objective.state_dict()["multipliers.steps"].tolist() == [1]


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    objective = objective_of(LapMultipliers(1, 1, 1))
    losses_of(objective, [4], cost=1)
    before = copy.deepcopy(objective.state_dict())
    found = losses_of(objective, [float("nan"), float("inf")], cost=1)
    assert multipliers_of(found) == [5, 5]
    for name, value in objective.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert multipliers_of(losses_of(objective, [2], cost=1)) == [7]


@pytest.mark.parametrize("order", ["code", "text"])
@pytest.mark.parametrize("stop", range(6))
def test_a_loaded_state_goes_on_as_before(order: str, stop: int) -> None:
    """Saved after any step, as safetensors, and loaded into a new objective."""
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]
    kept = lap(0.1, 0.3, 2, order="code" if order == "code" else "text")
    kept.classification = read_loss
    fresh = copy.deepcopy(kept)
    losses_of(kept, values[:stop], cost=1, part=1)
    fresh.load_state_dict(load(save(kept.state_dict())))
    expected = losses_of(kept, values[stop:], cost=1, part=1)
    found = losses_of(fresh, values[stop:], cost=1, part=1)
    assert multipliers_of(found) == multipliers_of(expected)
    assert len(fresh.state_dict()["multipliers.values"]) == 2


def test_multipliers_stay_in_double_precision() -> None:
    objective = objective_of(LapMultipliers(1, 1, 1)).half()
    assert multipliers_of(losses_of(objective, [5], cost=1)) == [6]
    for multipliers in (LapMultipliers(1, 1, 1), FixedMultiplier(1), TauMultipliers(1)):
        state = objective_of(multipliers).half().to(torch.bfloat16).state()
        assert state is not None
        assert (state.value.dtype, state.steps.dtype) == (torch.float64, torch.int64)


@pytest.mark.parametrize(
    "multipliers", [LapMultipliers(1, 1, 1), FixedMultiplier(1), TauMultipliers(1)], ids=repr
)
def test_multipliers_move_with_their_objective(multipliers: Multipliers) -> None:
    objective = objective_of(multipliers)
    losses_of(objective, [5], cost=1)
    state = objective.to("meta").state()
    assert state is not None
    assert state.value.is_meta
    assert state.steps.is_meta


def test_state_survives_torch_save() -> None:
    objective = objective_of(LapMultipliers(1, 1, 1))
    losses_of(objective, [5], cost=1)
    file = io.BytesIO()
    torch.save(objective.state_dict(), file)
    file.seek(0)
    other = objective_of(LapMultipliers(1, 1, 1))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.state_dict().keys() == objective.state_dict().keys()
    assert multipliers_of(losses_of(other, [1], cost=1)) == [7]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LapMultipliers(0, 1, 1), "lambda0 must be a number above 0, not 0"),
        (lambda: LapMultipliers(1, -1, 1), "lambda_rate must be a number at least 0, not -1"),
        (lambda: LapMultipliers(1, 1, 0), "update_every must be at least 1, not 0"),
        (lambda: LapMultipliers(1, 1, 1, "other"), "'code' or 'text', not 'other'"),  # type: ignore[arg-type]
        (lambda: TrglMultipliers(float("nan"), 1, 1), "above 0, not nan"),
        (lambda: TauMultipliers(0), "tau must be a number above 0, not 0"),
        (lambda: TauMultipliers([1, float("inf")]), "tau must be a number above 0, not inf"),
        (lambda: TauMultipliers([]), "tau is empty"),
        (lambda: FixedMultiplier(-1), "lambda0 must be a number at least 0, not -1"),
    ],
)
def test_options_that_are_not_valid(make: Callable[[], Multipliers], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
