"""Means over an epoch, whenever they are read."""

from dataclasses import replace

import pytest
import torch

from fxtransport.training import EndToEnd, PartStep, StepReport
from fxtransport.training.meter import Meter
from fxtransport.training.steps import LossError
from tests.training.runs import trainer_of


def report(loss: float, samples: int, transport: float | None = 2.0) -> StepReport:
    cost = None if transport is None else torch.tensor(transport)
    step = PartStep(1, torch.tensor(loss), torch.tensor(loss / 2), cost, torch.tensor(loss * 3))
    return StepReport((step,), samples)


@pytest.mark.parametrize("every", [1, 2, 10])
def test_means_are_weighted_by_samples(every: int) -> None:
    trainer = trainer_of(EndToEnd(1))
    meter = Meter(every)
    for number, (loss, samples) in enumerate([(1.0, 8), (2.0, 8), (4.0, 4)], 1):
        meter.add(number, report(loss, samples))
    [found] = meter.epoch(trainer._engine.learners)
    assert (found.part, found.lr) == (1, 0.05)
    assert found.loss == (8 + 16 + 16) / 20
    assert found.classification == found.loss / 2
    assert found.transport == 2.0
    assert found.multiplier == 12.0


def test_no_cost_no_mean() -> None:
    meter = Meter(1)
    meter.add(1, report(1.0, 8, transport=None))
    [found] = meter.epoch(trainer_of(EndToEnd(1))._engine.learners)
    assert found.transport is None


def test_a_late_look_names_the_step() -> None:
    meter = Meter(every=4)
    for number, loss in enumerate([1.0, float("nan"), float("inf")], 11):
        meter.add(number, report(loss, 8))
    with pytest.raises(LossError) as error:
        meter.add(14, report(1.0, 8))
    assert (error.value.part, error.value.step) == (1, 12)


def test_it_goes_on_from_its_state() -> None:
    learners = trainer_of(EndToEnd(1))._engine.learners
    whole, one, two = Meter(2), Meter(2), Meter(2)
    losses = [(0.1, 8), (0.7, 8), (0.4, 3)]
    for number, (loss, samples) in enumerate(losses, 1):
        whole.add(number, report(loss, samples))
        (one if number < 2 else two).add(number, report(loss, samples))
        if number == 1:
            two.load_state_dict(one.state_dict())
    assert two.epoch(learners) == whole.epoch(learners)


def test_accuracy_of_an_epoch_that_began_without_it() -> None:
    trainer, meter = trainer_of(EndToEnd(1)), Meter(1)
    [late] = report(1.0, 8).parts
    meter.add(1, report(1.0, 8))
    meter.add(2, StepReport((replace(late, accuracy=torch.tensor(0.5)),), 8))
    assert meter.epoch(trainer._engine.learners)[0].accuracy is None
    meter.reset()
    for number, (share, samples) in enumerate([(0.5, 8), (0.25, 4)], 1):
        step = replace(late, accuracy=torch.tensor(share))
        meter.add(number, StepReport((step,), samples))
    assert meter.epoch(trainer._engine.learners)[0].accuracy == 5 / 12
