"""What a trainer reports: how much there is to do, and observers that hear of it."""

import inspect

from fxtransport.training.reports import Observer, Plan, Position
from fxtransport.training.schedules import MultiLap, Parallel


def test_a_plan_counts_all_phases() -> None:
    phases = tuple(MultiLap(2, growth=1, laps=3).phases(2))
    plan = Plan(phases, steps_per_epoch=5, position=Position())
    assert plan.epochs == 3 * (2 + 3)
    assert plan.steps == 15 * 5
    assert Plan(tuple(Parallel(4).phases(2)), 5, Position(steps=3)).steps == 20


def test_an_observer_need_not_override_anything() -> None:
    methods = [name for name in vars(Observer) if name.startswith("on_")]
    assert len(methods) == 8
    for name in methods:
        method = getattr(Observer(), name)
        arguments = [None] * len(inspect.signature(method).parameters)
        assert method(*arguments) is None
