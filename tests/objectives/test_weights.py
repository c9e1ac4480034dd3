"""Weights of loss and cost: worked out by hand, saved, loaded and refused."""

import copy
import io
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load, save

from fxtransport.errors import UsageError
from fxtransport.objectives import (
    Fixed,
    Greedy,
    Loss,
    ModuleMultipliers,
    Multiplier,
    NoCost,
    Objective,
    TransportCost,
    Weighting,
    fixed,
    lap,
    plain,
    trgl,
    trgl_multipliers,
    vangl,
)


def given(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A loss that is what the logits say."""
    return logits.sum()


def objective_of(weighting: Weighting) -> Objective:
    return Objective(given, TransportCost(), weighting)


def losses_of(
    objective: Objective, losses: list[float], cost: float, module: int = 0, **options: bool
) -> list[Loss]:
    """What an objective makes of batches whose L is given; C is the sum of two energies."""
    energies = torch.tensor([0.25 * cost, 0.75 * cost])
    return [
        objective(
            SimpleNamespace(logits=torch.tensor([value]), energies=energies),
            torch.zeros(1),
            module=module,
            **options,
        )
        for value in losses
    ]


def weights_of(found: list[Loss]) -> list[float]:
    return [loss.weight.item() for loss in found if loss.weight is not None]


def test_order_of_the_code() -> None:
    """Updated on iterations 2, 4, ..., from their own loss, and used at once."""
    found = losses_of(objective_of(Multiplier(1, 0.5, 2)), [8, 4, 2, 6, 9], cost=12)
    assert weights_of(found) == [1, 3, 3, 6, 6]
    assert [loss.total.item() for loss in found] == [20, 8, 6, 8, 11]
    assert [loss.classification.item() for loss in found] == [8, 4, 2, 6, 9]
    assert all(loss.transport is not None and loss.transport.item() == 12 for loss in found)


def test_order_of_the_text() -> None:
    """Updated after 2, 4, ... steps, from the first loss of the new parameters."""
    found = losses_of(objective_of(Multiplier(1, 0.5, 2, "text")), [8, 4, 2, 6, 9], cost=12)
    assert weights_of(found) == [1, 1, 2, 2, 6.5]
    assert [loss.total.item() for loss in found[:4]] == [20, 16, 8, 12]


def test_orders_differ_with_updates_at_every_step() -> None:
    code = losses_of(objective_of(Multiplier(1, 1, 1, "code")), [1, 2, 3], cost=1)
    text = losses_of(objective_of(Multiplier(1, 1, 1, "text")), [1, 2, 3], cost=1)
    assert weights_of(code) == [2, 4, 7]
    assert weights_of(text) == [1, 3, 6]


def test_multipliers_of_modules_are_their_own() -> None:
    """λ_k·L + C_k, λ_k += h·L_k (THESIS eq. 33)."""
    objective = objective_of(ModuleMultipliers(1, 1, 2))
    first = losses_of(objective, [2, 3], cost=10, module=0)
    third = losses_of(objective, [5, 5, 5], cost=10, module=2)
    assert [loss.total.item() for loss in first] == [12, 4 * 3 + 10]
    assert weights_of(third) == [1, 6, 6]
    assert objective.state_dict()["weighting.multipliers"].tolist() == [4, 1, 6]
    assert objective.state_dict()["weighting.iterations"].tolist() == [2, 0, 3]


def test_greedy_weights() -> None:
    """L + C/(2τ), and 2τ in the second half of the modules (THESIS 4.4.3)."""
    assert losses_of(objective_of(Greedy(0.5)), [3], cost=2)[0].total.item() == 5
    doubled = objective_of(Greedy(0.5, doubled=True))
    doubled.prepare(5)
    found = [losses_of(doubled, [0], cost=8, module=k)[0] for k in range(5)]
    assert [loss.total.item() for loss in found] == [8, 8, 8, 4, 4]
    assert weights_of(found) == [0.5, 0.5, 0.5, 1, 1]


def test_doubled_asks_how_many_modules_there_are() -> None:
    objective = objective_of(Greedy(0.5, doubled=True))
    with pytest.raises(UsageError, match=r"objective.prepare\(len\(program.parts\)\)"):
        losses_of(objective, [1], cost=1)
    objective.prepare(2)
    with pytest.raises(UsageError, match="prepare"):
        losses_of(objective, [1], cost=1, module=2)


def test_fixed_weight_and_none() -> None:
    loss = losses_of(objective_of(Fixed(0.1)), [3], cost=20)[0]
    assert (loss.total.item(), loss.weight and loss.weight.item()) == (5, 0.1)
    loss = losses_of(objective_of(NoCost()), [3], cost=20)[0]
    assert (loss.total.item(), loss.transport, loss.weight) == (3, None, None)


def test_gradients_flow_through_the_total_alone() -> None:
    logits, energies = torch.tensor([2.0], requires_grad=True), torch.ones(3, requires_grad=True)
    output = SimpleNamespace(logits=logits, energies=energies)
    loss = objective_of(Multiplier(4, 1, 1, "text"))(output, torch.zeros(1))
    assert not any(t.requires_grad for t in loss[1:] if t is not None)
    loss.total.backward()
    assert logits.grad is not None
    assert energies.grad is not None
    assert logits.grad.tolist() == [1]
    assert energies.grad.tolist() == [0.25] * 3


def test_evaluation_and_accumulation_count_no_step() -> None:
    objective = objective_of(Multiplier(1, 1, 1))
    assert weights_of(losses_of(objective, [5], cost=1, update=False)) == [1]
    assert weights_of(losses_of(objective.eval(), [5], cost=1)) == [1]
    assert weights_of(losses_of(objective.train(), [5], cost=1)) == [6]


def test_a_loss_that_is_not_finite_spoils_no_multiplier() -> None:
    found = losses_of(objective_of(Multiplier(1, 1, 1)), [float("nan"), float("inf"), 2], cost=1)
    assert weights_of(found) == [1, 1, 3]


@pytest.mark.parametrize("order", ["code", "text"])
@pytest.mark.parametrize("stop", range(6))
def test_a_loaded_state_goes_on_as_before(order: str, stop: int) -> None:
    """Cut anywhere, saved as safetensors, and loaded into an objective that is not prepared."""
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]
    kept = lap(0.1, 0.3, 2, order="code" if order == "code" else "text")
    kept.classification = given
    fresh = copy.deepcopy(kept)
    kept.prepare(3)
    losses_of(kept, values[:stop], cost=1, module=1)
    fresh.load_state_dict(load(save(kept.state_dict())))
    expected = losses_of(kept, values[stop:], cost=1, module=1)
    found = losses_of(fresh, values[stop:], cost=1, module=1)
    assert weights_of(found) == weights_of(expected)
    assert len(fresh.state_dict()["weighting.multipliers"]) == 3


def test_preparing_again_changes_nothing() -> None:
    objective = objective_of(Multiplier(1, 1, 1))
    losses_of(objective, [5], cost=1)
    for modules in (1, 3, 3, 2):
        objective.prepare(modules)
    assert objective.state_dict()["weighting.multipliers"].tolist() == [6, 1, 1]


def test_multipliers_stay_in_double_precision_on_the_cpu() -> None:
    objective = objective_of(Multiplier(1, 1, 1)).half().to("meta")
    objective.prepare(1)
    assert objective.half().state_dict()["weighting.multipliers"].dtype == torch.float64
    assert weights_of(losses_of(objective, [5], cost=1)) == [6]


def test_state_survives_torch_save() -> None:
    objective = objective_of(Multiplier(1, 1, 1))
    losses_of(objective, [5], cost=1)
    file = io.BytesIO()
    torch.save(objective.state_dict(), file)
    file.seek(0)
    other = objective_of(Multiplier(1, 1, 1))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.state_dict().keys() == objective.state_dict().keys()
    assert weights_of(losses_of(other, [1], cost=1)) == [7]


def test_descriptions_tell_options_apart() -> None:
    """What a run is saved under."""
    made = [
        lap(1, 0.1, 5),
        lap(1, 0.2, 5),
        lap(1, 0.1, 5, order="text"),
        lap(1, 0.1, 5, label_smoothing=0.1),
        lap(1, 0.1, 5, cost=TransportCost(p=3)),
        trgl_multipliers(1, 0.1, 5),
        trgl(0.5),
        trgl(0.5, doubled=True),
        fixed(0.5),
        vangl(),
    ]
    assert len({repr(objective) for objective in made}) == len(made)
    assert repr(lap(1, 0.1, 5)) == repr(lap(1, 0.1, 5))


def test_without_a_cost_nothing_is_measured() -> None:
    assert vangl().cost is None
    assert plain(label_smoothing=0.1).cost is None
    cost = TransportCost(p=3)
    assert trgl(1, cost=cost).cost is cost
    assert lap(1, 1, 1).cost == TransportCost()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Multiplier(0, 1, 1), "the initial multiplier is a number above 0, not 0"),
        (lambda: Multiplier(1, -1, 1), "the rate of the multiplier is a number at least 0"),
        (lambda: Multiplier(1, 1, 0), "every 1 step or more, not every 0"),
        (lambda: Multiplier(1, 1, 1, "other"), "order is code or text, not 'other'"),  # type: ignore[arg-type]
        (lambda: ModuleMultipliers(float("nan"), 1, 1), "above 0, not nan"),
        (lambda: Greedy(0), "tau is a number above 0, not 0"),
        (lambda: Greedy(float("inf")), "tau is a number above 0, not inf"),
        (lambda: Fixed(-1), "the weight of the transport cost is a number at least 0, not -1"),
    ],
)
def test_options_that_make_no_sense(make: Callable[[], Weighting], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
