"""A transport cost that does next to nothing is noticed, and training stays what it was."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from fxtransport import transportify
from fxtransport.objectives import Objective, fixed, lap, trgl, vangl
from fxtransport.program import Program
from fxtransport.training import (
    EndToEnd,
    OptimizerSettings,
    Parallel,
    Schedule,
    Sequential,
    Trainer,
)
from fxtransport.training.shares import CostWatch, NegligibleCostWarning, cost_shares
from tests.networks import Net

BATCHES = [(torch.randn(8, 3, 8, 8), torch.randint(5, (8,))) for _ in range(6)]
SLOW = OptimizerSettings(lr=5e-6)
"""So that norms that begin with zero stay near to it for fifty steps."""


class BatchNormed(nn.Module):
    """A block that ends in a batch norm, as those of ResNets do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x + self.norm(self.conv(x))
        return y


def program_of(scale: float, modules: int = 1) -> Program:
    torch.manual_seed(0)
    model = Net(0)
    model.blocks = nn.Sequential(*(BatchNormed() for _ in range(4)))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, scale)
    return transportify(model, torch.zeros(2, 3, 8, 8), modules=modules)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    yield


@pytest.mark.parametrize(
    ("objective", "schedule", "modules"),
    [
        (lap(1.0, 0.1, 5), EndToEnd(10), 1),
        (fixed(1.0), EndToEnd(10), 1),
        (trgl(1.0), Parallel(10), 2),
        (trgl(1.0), Sequential(10), 2),
    ],
    ids=["lap", "fixed", "parallel", "sequential"],
)
def test_norms_that_begin_with_zero_are_noticed_and_with_one_are_not(
    objective: Objective, schedule: Schedule, modules: int
) -> None:
    for scale in (0.0, 1.0):
        program = program_of(scale, modules)
        said: list[str] = []
        watch = CostWatch(program, objective, schedule, *BATCHES[0], "do that", said.append)
        Trainer(program, objective, schedule, optimizer=SLOW, observers=[watch]).fit(BATCHES)
        if scale:
            assert said == []
        else:
            [line] = said
            assert line.startswith("the transport cost has 0.")
            assert "after 50 steps, so it changes next to nothing: do that" in line


def test_a_short_run_is_measured_at_its_end() -> None:
    program, objective, schedule = program_of(0.0), trgl(1.0), EndToEnd(2)
    watch = CostWatch(program, objective, schedule, *BATCHES[0], "do that")
    with pytest.warns(NegligibleCostWarning, match="after 12 steps"):
        Trainer(program, objective, schedule, optimizer=SLOW, observers=[watch]).fit(BATCHES)


def test_without_a_cost_nothing_is_measured() -> None:
    program = program_of(0.0)
    said: list[str] = []
    watch = CostWatch(program, vangl(), EndToEnd(10), *BATCHES[0], "", said.append)
    report = Trainer(program, vangl(), EndToEnd(10), observers=[watch]).fit(BATCHES)
    assert report.position.steps == 60
    assert said == []


def test_the_share_is_that_of_the_gradients_as_they_are_weighted() -> None:
    program, shares = program_of(1.0), []
    program.train()
    for weight in (0.1, 0.2, 10.0):
        found = cost_shares((program.whole,), (0,), fixed(weight), *BATCHES[0])
        shares.append(found[0])
    # ‖∇C‖/‖∇L‖ follows from the share, and is in proportion to the weight
    ratios = [share / (1 - share) for share in shares]
    assert ratios[1] == pytest.approx(2 * ratios[0], rel=1e-4)
    assert ratios[2] == pytest.approx(100 * ratios[0], rel=1e-4)


def test_training_is_the_same_bit_for_bit() -> None:
    found = []
    for watched in (False, True):
        program, objective = program_of(1.0, 2), trgl(1.0)
        schedule = Parallel(10)
        watch = [CostWatch(program, objective, schedule, *BATCHES[0], "")] if watched else []
        torch.manual_seed(1)
        Trainer(program, objective, schedule, observers=watch).fit(BATCHES)
        found.append((program.state_dict(), torch.rand(1)))
    (plain, drawn), (same, again) = found
    assert torch.equal(drawn, again)
    assert all(torch.equal(plain[name], same[name]) for name in plain)
