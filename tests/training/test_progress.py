"""What a checkpoint says of how far its run is must be possible."""

from collections.abc import Callable
from typing import Any

import pytest

from fxtransport.errors import CheckpointError
from fxtransport.training import Exit, MultiLap, Position
from fxtransport.training.progress import check_progress, read_progress

EXIT = {"part": 1, "accuracy": 0.5, "loss": 1.25, "samples": 8}
PHASES = MultiLap(2, growth=1, laps=2).phases(parts=2)


def state(**position: int) -> dict[str, Any]:
    at = {"phase": 1, "epoch": 2, "batch": 1, "steps": 13, "epochs": 4, **position}
    return {
        "position": at,
        "steps_per_epoch": 3,
        "best": {"exit": dict(EXIT), "epoch": 3},
        "exits": [dict(EXIT)],
        "test": None,
        "finished": False,
        "ema": None,
        "program": {},
        "random": {},
    }


def test_it_is_read() -> None:
    found = read_progress(state())
    assert found.position == Position(1, 2, 1, 13, 4)
    assert found.best is not None
    assert found.best.exit == found.exits[0] == Exit(**EXIT)
    assert (found.finished, found.averaged, found.steps_per_epoch) == (False, False, 3)
    # of a run of an earlier version
    assert (found.elapsed, found.best.exit.top5) == (0.0, None)
    later = {**state(), "elapsed": 2.5, "exits": [{**EXIT, "top5": 0.75}]}
    assert read_progress(later).elapsed == 2.5
    assert read_progress(later).exits[0].top5 == 0.75
    check_progress(found, PHASES, exits=2)


@pytest.mark.parametrize(
    "position",
    [
        {"phase": 0, "epoch": 0, "batch": 0, "steps": 0, "epochs": 0},
        {"phase": 1, "epoch": 0, "batch": 3, "epochs": 2},
        {"phase": 4, "epoch": 0, "batch": 0, "epochs": 10},
    ],
)
def test_where_a_run_may_be(position: dict[str, int]) -> None:
    found = read_progress({**state(**position), "best": None})
    check_progress(found, PHASES, exits=2)
    assert found.position == Position(**{**state()["position"], **position})


@pytest.mark.parametrize(
    ("position", "words"),
    [
        ({"phase": 7}, "it is in phase 7 of 4"),
        ({"phase": 0, "epoch": 2, "epochs": 2}, "has done 2 epochs of a phase of 2"),
        ({"phase": 4, "epoch": 1, "epochs": 11}, "has done 1 epochs of a phase of 0"),
        ({"epochs": 5}, "has done 5 epochs, not 4"),
        ({"batch": 4}, "has done 4 of 3 batches"),
    ],
)
def test_where_a_run_cannot_be(position: dict[str, int], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        check_progress(read_progress(state(**position)), PHASES, exits=2)


def test_exits_and_ends_that_cannot_be() -> None:
    with pytest.raises(CheckpointError, match="has an exit 1, and its program has 1"):
        check_progress(read_progress(state()), PHASES, exits=1)
    with pytest.raises(CheckpointError, match="in phase 1 of 4 and has ended"):
        check_progress(read_progress({**state(), "finished": True}), PHASES, exits=2)
    late = {**state(), "best": {"exit": EXIT, "epoch": 9}}
    with pytest.raises(CheckpointError, match="best exit is of epoch 9, and it has done 4"):
        check_progress(read_progress(late), PHASES, exits=2)
    first = {**state(), "whole": {"exit": {**EXIT, "part": 0}, "epoch": 3}}
    with pytest.raises(CheckpointError, match="says that the last exit is 0 of 2"):
        check_progress(read_progress(first), PHASES, exits=2)
    far = {**state(), "best": {"exit": EXIT, "epoch": 3, "exits": [{**EXIT, "part": 2}]}}
    with pytest.raises(CheckpointError, match="has an exit 2, and its program has 2"):
        check_progress(read_progress(far), PHASES, exits=2)


def test_what_was_measured_with_the_best_weights() -> None:
    assert read_progress(state()).whole is None
    both = {"exit": dict(EXIT), "epoch": 2, "exits": [{**EXIT, "part": 0}, dict(EXIT)]}
    found = read_progress({**state(), "best": both, "whole": both})
    assert found.best == found.whole
    assert found.best is not None
    assert [exit.part for exit in found.best.exits] == [0, 1]
    check_progress(found, PHASES, exits=2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: found.pop("best"),
        lambda found: found.pop("ema"),
        lambda found: found["position"].pop("steps"),
        lambda found: found["position"].update(steps=-1),
        lambda found: found["position"].update(steps=1.0),
        lambda found: found["position"].update(steps=True),
        lambda found: found["position"].update(laps=1),
        lambda found: found["exits"].append(3),
        lambda found: found.update(exits=None),
        lambda found: found["best"]["exit"].update(loss="low"),
        lambda found: found["best"].update(exits=[3]),
        lambda found: found.update(whole=[]),
        lambda found: found.update(best=3),
        lambda found: found.update(finished=1),
        lambda found: found.update(random=None),
        lambda found: found.update(steps_per_epoch=0),
    ],
)
def test_what_is_not_a_state(damage: Callable[[dict[str, Any]], object]) -> None:
    found = state()
    damage(found)
    with pytest.raises(CheckpointError, match=r"^the checkpoint does not fit this run: "):
        read_progress(found)
