"""How far a run is, as a checkpoint says it, and whether that can be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from fxtransport.errors import CheckpointError
from fxtransport.training.reports import Best, Exit, Position
from fxtransport.training.schedules import Phase

Record = TypeVar("Record", Position, Exit)


@dataclass(frozen=True)
class Progress:
    """What a checkpoint says of how far its run is."""

    position: Position
    steps_per_epoch: int | None
    """None before the first epoch."""
    best: Best | None
    whole: Best | None
    """When the last exit was best; None if it was not trained yet, or in a run of an earlier
    version."""
    exits: tuple[Exit, ...]
    """At the last validation."""
    test: Exit | None
    finished: bool
    averaged: bool
    """Whether there is a moving average of the weights."""
    stopped: bool = False
    """Whether the run ended before the last epoch, as nothing became better."""
    elapsed: float = 0.0
    """Seconds of training and validation; 0 in a run of an earlier version."""


def read_progress(state: Any) -> Progress:
    """How far a run is.

    Args:
        state: The state in its checkpoint.

    Raises:
        CheckpointError: it is not the state of a run.
    """
    try:
        best, test, steps = state["best"], state["test"], state["steps_per_epoch"]
        finished, stopped = state["finished"], state.get("stopped", False)
        if (
            type(finished) is not bool
            or type(stopped) is not bool
            or type(state["random"]) is not dict
        ):
            raise TypeError("'finished' or 'random' is of another kind")
        found = Progress(
            position=_record(Position, state["position"]),
            steps_per_epoch=None if steps is None else _whole(steps, 1),
            best=_best(best),
            whole=_best(state.get("whole")),
            exits=tuple(_exit(exit) for exit in state["exits"]),
            test=None if test is None else _exit(test),
            finished=finished,
            averaged=state["ema"] is not None,
            stopped=stopped,
            elapsed=float(state.get("elapsed", 0.0)),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"the checkpoint does not fit this run: {reason}") from error
    return found


def check_progress(progress: Progress, phases: Sequence[Phase], exits: int) -> None:
    """Check that a run can be where it is said to be.

    Args:
        progress: Where.
        phases: The phases of its schedule.
        exits: The number of exits of its program.

    Raises:
        CheckpointError: the schedule does not lead there, or there is no such exit.
    """
    position = progress.position
    done = position.phase == len(phases)
    early = progress.finished and not (done or (progress.stopped and not position.batch))
    if position.phase > len(phases) or early:
        _refuse(f"it is in phase {position.phase} of {len(phases)}", finished=progress.finished)
    length = 0 if done else phases[position.phase].epochs
    if position.epoch >= max(length, 1):
        _refuse(f"it has done {position.epoch} epochs of a phase of {length}")
    before = sum(phase.epochs for phase in phases[: position.phase])
    if position.epochs != before + position.epoch:
        _refuse(f"it has done {position.epochs} epochs, not {before + position.epoch}")
    if position.batch > (0 if done else progress.steps_per_epoch or 0):
        _refuse(f"it has done {position.batch} of {progress.steps_per_epoch} batches of an epoch")
    measured = [*progress.exits, *filter(None, [progress.test])]
    for best in filter(None, [progress.best, progress.whole]):
        if best.epoch > position.epochs + 1:
            _refuse(f"its best exit is of epoch {best.epoch}, and it has done {position.epochs}")
        measured += [best.exit, *best.exits]
    for exit in measured:
        if exit.part >= exits:
            _refuse(f"it has an exit {exit.part}, and its program has {exits}")
    if progress.whole is not None and progress.whole.exit.part != exits - 1:
        _refuse(f"it says that the last exit is {progress.whole.exit.part} of {exits}")


def extend_progress(
    progress: Progress, phases: Sequence[Phase], trained: Mapping[int, int]
) -> Progress:
    """How far a run is in another schedule.

    Args:
        progress: How far it is in its own.
        phases: The phases of the other schedule.
        trained: For how many epochs each part has trained.

    Raises:
        CheckpointError: the other schedule does not come to where the run is.
    """
    left, index, counts = progress.position.epochs, 0, dict.fromkeys(trained, 0)
    for phase in phases:
        done = min(left, phase.epochs)
        counts |= {k: counts.get(k, 0) + done for k in phase.parts}
        left -= done
        if done < phase.epochs:
            break
        index += 1
    total = sum(phase.epochs for phase in phases)
    if left or (index == len(phases) and progress.position.batch):
        raise CheckpointError(
            f"the run is past epoch {min(total, progress.position.epochs)}, and its schedule would "
            f"now end after {total}: give more epochs"
        )
    if counts != dict(trained):
        raise CheckpointError(
            f"the parts have trained for {_listed(trained)} epochs, and with the schedule that is "
            f"asked for they would have trained for {_listed(counts)}: where parts train one after "
            "the other, only laps can be added"
        )
    epoch = progress.position.epochs - sum(phase.epochs for phase in phases[:index])
    found = replace(progress, position=replace(progress.position, phase=index, epoch=epoch))
    # what is not at the end of its schedule has not been tested
    if index == len(phases):
        return found
    return replace(found, finished=False, stopped=False, test=None)


def _listed(counts: Mapping[int, int]) -> str:
    return ", ".join(str(count) for _, count in sorted(counts.items()))


def _refuse(what: str, *, finished: bool = False) -> None:
    ended = " and has ended" if finished else ""
    raise CheckpointError(f"the checkpoint does not fit this run: {what}{ended}")


def _best(found: Any) -> Best | None:
    if found is None:
        return None
    exits = tuple(_exit(exit) for exit in found.get("exits", ()))
    return Best(_exit(found["exit"]), _whole(found["epoch"]), exits)


def _exit(found: Any) -> Exit:
    return _record(Exit, found)


def _record(kind: type[Record], found: Any) -> Record:
    """A record of numbers: whole ones that are not negative, and others.

    Raises:
        KeyError: one is missing.
        TypeError: there is another entry, or one of another type.
        ValueError: one is negative.
    """
    if not isinstance(found, Mapping):
        raise TypeError(f"{kind.__name__} is of another kind")
    for field in fields(kind):
        if field.default is None and found.get(field.name) is None:
            # of an earlier version
            continue
        value = found[field.name]
        if field.type in (float, float | None) and type(value) is not float:
            raise TypeError(f"{field.name} is {value!r:.40}, not a number")
        if field.type is int:
            _whole(value)
    return kind(**found)


def _whole(value: Any, least: int = 0) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r:.40} is not a whole number")
    if value < least:
        raise ValueError(f"{value} is below {least}")
    return value
