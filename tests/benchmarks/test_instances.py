"""Instances trained together are what each is when it trains alone, with the library."""

import copy

import instances
import pytest
import torch
from circles import norm
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.nets import circles_resnet
from fxtransport.objectives import Objective, TransportCost, fixed, plain, trgl_multipliers
from fxtransport.residue import Measure

STEPS, BATCH, EVERY = 7, 10, 2
COSTS: dict[str, Measure] = {"norm": norm, "sum": TransportCost(reduction="sum")}


def objectives(cost: Measure) -> list[Objective]:
    """Vanilla, a fixed multiplier, and LAP as λL + C."""
    lap = trgl_multipliers(0.1, 0.5, EVERY, order="text", cost=cost)
    return [plain(), fixed(0.3, cost=cost), lap]


def multipliers() -> instances.Multipliers:
    return instances.Multipliers(
        loss=torch.tensor([1, 1, 0.1]),
        cost=torch.tensor([0, 0.3, 1]),
        rate=torch.tensor([0, 0, 0.5]),
        every=EVERY,
    )


def stepper(parameters: list[Tensor]) -> torch.optim.Optimizer:
    """Not Adam, which amplifies rounding where there is no gradient: biases before norms."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def train_alone(model: nn.Module, objective: Objective, x: Tensor, y: Tensor) -> None:
    """A user's loop: the program and the objective."""
    program = transportify(model)
    optimizer = stepper([p for p in program.parameters() if p.requires_grad])
    program.train()
    for points, classes in zip(x.split(BATCH), y.split(BATCH), strict=True):
        optimizer.zero_grad()
        output = program.whole(points, measure=objective.cost)
        loss = objective(output, classes, objective.state())
        loss.total.backward()
        optimizer.step()
        objective.commit(0, loss.next)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_an_instance_trains_as_it_does_alone(batch_norm: bool, cost: str) -> None:
    torch.manual_seed(0)
    models: list[nn.Module] = [circles_resnet(3, batch_norm=batch_norm) for _ in range(3)]
    alone = copy.deepcopy(models)
    x, y = torch.randn(3, STEPS * BATCH, 2), torch.randint(0, 2, (3, STEPS * BATCH))
    stack, together = instances.Instances(models, COSTS[cost]), multipliers()
    optimizer = stepper([*stack.parameters.values()])
    for batch in zip(x.split(BATCH, dim=1), y.split(BATCH, dim=1), strict=True):
        stack.backward(*batch, together)
        optimizer.step()

    by_themselves = objectives(COSTS[cost])
    for i, (model, objective) in enumerate(zip(alone, by_themselves, strict=True)):
        before = copy.deepcopy(model.state_dict())
        train_alone(model, objective, x[i], y[i])
        after = model.state_dict()
        stacked = stack.parameters | stack.buffers
        assert len(stacked) == len([name for name in after if not name.startswith("head")])
        for name, values in stacked.items():
            own = after[name.removeprefix("program.")]
            torch.testing.assert_close(values[i], own, rtol=1e-4, atol=1e-5)
            if name.endswith(("weight", "running_mean", "tracked")):
                assert not torch.equal(own, before[name.removeprefix("program.")])
        shares = stack.accuracies(x, y)
        with torch.no_grad():
            right = model.eval()(x[i]).argmax(-1) == y[i]
        torch.testing.assert_close(shares[i], right.float().mean())
    state = by_themselves[2].state()
    assert state is not None
    assert state.value.item() > 0.11
    torch.testing.assert_close(together.loss[2].double(), state.value, rtol=1e-4, atol=0)
    assert together.loss[:2].tolist() == [1, 1]
