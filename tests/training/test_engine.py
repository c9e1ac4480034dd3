"""Steps and epochs by a schedule: which parts train, which are frozen, and what comes next."""

import pytest
import torch

from fxtransport.training import MultiLap, Sequential
from fxtransport.training.engine import Engine
from tests.training.runs import calm, program_of, samples, trainer_of


def engine_of(schedule: MultiLap | Sequential) -> Engine:
    return trainer_of(schedule, program=program_of(calm))._engine


def state(engine: Engine, index: int) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in engine.parts[index].state_dict().items()}


def unchanged(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("trained", [0, 1])
def test_a_step_changes_the_part_of_the_phase_alone(trained: int) -> None:
    engine = engine_of(Sequential(1))
    for _ in range(trained):
        engine.end_epoch()
    before = [state(engine, index) for index in (0, 1)]
    report = engine.step(*samples(8).batch(range(8)))
    assert [step.part for step in report.parts] == [trained]
    assert report.samples == 8
    assert [unchanged(before[k], state(engine, k)) for k in (0, 1)] == [trained != 0, trained != 1]
    assert engine.state.position.steps == 1
    assert engine.frozen_parts == engine.parts[:trained]


def test_frozen_parts_may_have_been_run_before() -> None:
    """What they return trains the next part as the images do."""
    images, targets = samples(8).batch(range(8))
    states = []
    for hidden in (False, True):
        engine = engine_of(Sequential(1))
        engine.end_epoch()
        inputs = engine.frozen(images) if hidden else images
        engine.step(inputs, targets, hidden=hidden)
        states.append(state(engine, 1))
    assert unchanged(*states)


def test_phases_follow_each_other() -> None:
    engine = engine_of(MultiLap(1, growth=1, laps=2))
    seen = []
    for _ in range(6):
        seen.append((engine.phase.parts, engine.phase.lap, engine.trained_exits))
        engine.end_epoch()
    assert seen == [
        ((0,), 0, (0,)),
        ((1,), 0, (0, 1)),
        ((1,), 0, (0, 1)),
        ((0,), 1, (0, 1)),
        ((1,), 1, (0, 1)),
        ((1,), 1, (0, 1)),
    ]
    assert engine.state.position.epochs == 6
    assert engine.phase == engine.phases[-1], "after the end, the last"


def test_the_optimizer_of_a_part_that_is_done_is_freed() -> None:
    engine = engine_of(Sequential(1))
    engine.step(*samples(8).batch(range(8)))
    [first] = engine.learners
    assert first.optimizer.state
    engine.end_epoch()
    assert not first.optimizer.state
