"""Phases of every schedule, by hand."""

import pytest

from fxtransport.errors import UsageError
from fxtransport.training import EndToEnd, MultiLap, Parallel, Phase, Schedule, Sequential
from tests.training.runs import program_of


@pytest.mark.parametrize(
    ("schedule", "phases"),
    [
        (EndToEnd(3), [Phase((0,), 3)]),
        (Parallel(3), [Phase((0, 1, 2), 3)]),
        (Sequential(3), [Phase((0,), 3), Phase((1,), 3), Phase((2,), 3)]),
        # BLOCK: 50 + 10k epochs
        (Sequential(50, growth=10), [Phase((k,), 50 + 10 * k) for k in range(3)]),
        # BLOCK: 10 + 2k epochs in each of 5 laps
        (
            MultiLap(10, growth=2, laps=5),
            [Phase((k,), 10 + 2 * k, lap) for lap in range(5) for k in range(3)],
        ),
    ],
)
def test_phases(schedule: Schedule, phases: list[Phase]) -> None:
    assert list(schedule.phases(3)) == phases


def test_epochs_of_a_part() -> None:
    assert MultiLap(10, growth=2, laps=5).epochs_of(2, 3) == 5 * 14
    assert Sequential(50, growth=10).epochs_of(2, 3) == 70
    assert Parallel(4).epochs_of(2, 3) == 4
    assert EndToEnd(4).epochs_of(0, 1) == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: EndToEnd(0),
        lambda: Parallel(-1),
        lambda: Sequential(1, growth=-1),
        lambda: MultiLap(1, laps=0),
    ],
)
def test_numbers_that_are_too_small_are_refused(make: type[Schedule]) -> None:
    with pytest.raises(UsageError, match="it must be at least"):
        make()  # type: ignore[call-arg]


@pytest.mark.parametrize("schedule", [EndToEnd(1), Parallel(1), Sequential(1), MultiLap(1)])
def test_what_trains_is_a_tuple_of_parts(schedule: Schedule) -> None:
    program = program_of()
    whole = isinstance(schedule, EndToEnd)
    parts = schedule.parts_of(program)
    assert parts == ((program.whole,) if whole else program.parts)
    assert {k for phase in schedule.phases(len(parts)) for k in phase.parts} == {*range(len(parts))}
    assert [part.exit for part in parts] == ([1] if whole else [0, 1])
