"""What a checkpoint says of its run, and whether what goes on is the same."""

import re
from collections.abc import Mapping
from typing import Any

from fxtransport.errors import CheckpointError

Described = Mapping[str, Any]


def describe_data(train: Any, validation: Any, test: Any) -> dict[str, Any]:
    """What is trained and measured on, as JSON; None for what does not tell.

    Args:
        train: Training batches; the streams of :mod:`fxtransport.data` tell.
        validation: Batches, or None.
        test: Batches, or None.
    """
    splits = {"train": train, "validation": validation, "test": test}
    return {name: _description(batches) for name, batches in splits.items()}


def _description(batches: Any) -> dict[str, Any] | None:
    tell = getattr(batches, "description", None)
    return tell() if callable(tell) else None


LATER = ("shards",)
"""What runs of an earlier version did not note of their data."""


def check_same_data(saved: Described, present: Described) -> None:
    """Check that a run goes on with its data. What one of the two does not tell is not compared.

    Args:
        saved: What :func:`describe_data` said when the run began.
        present: What it says now.

    Raises:
        CheckpointError: it is other data.
    """
    for split, now in present.items():
        before = saved.get(split)
        if not before or not now:
            continue
        for key in dict.fromkeys((*now, *before)):
            if key in LATER and key not in before:
                continue
            if before.get(key) != now.get(key):
                raise CheckpointError(
                    f"the run began with other data: {split}.{key} was {_short(before.get(key))} "
                    f"and is {_short(now.get(key))}; go on with the data that it began with"
                )


EXTENDED = ("grad_clip", "patience")
"""The settings of trainers that may be others when a run is extended."""
COUNTS = re.compile(r"\b(epochs|laps)=\d+")
"""What of a schedule may be another number then."""
MULTIPLIERS = re.compile(
    r"\b(tau|lambda_rate|update_every|(?<=FixedMultiplier\()lambda0)=(\([^()]*\)|[^,()]*)"
)
"""What of an objective may be: λ and τ that do not change by themselves, and how λ changes."""


def check_same_run(saved: Described, present: Described, *, extend: bool = False) -> None:
    """Check that a checkpoint is of this run.

    Args:
        saved: What :func:`fxtransport.training.state.describe_run` said when it was written.
        present: What it says now.
        extend: Whether it may have more epochs, other options of the optimizer, other multipliers,
            and other settings of :data:`EXTENDED`.

    Raises:
        CheckpointError: it is of another one.
    """
    if extend:
        saved, present = _without_changes(saved), _without_changes(present)
    for name, value in present.items():
        if saved.get(name) != value:
            key, before, now = _innermost(name, saved.get(name), value)
            said = "" if name == "program" else f": {_short(before)}; this run has {_short(now)}"
            if name == "teacher":
                said += " (the SHA-256 of its weights); resume with the teacher as it was"
            raise CheckpointError(f"the checkpoint is of a run with another {key}{said}")


def _without_changes(described: Described) -> Described:
    """A description without what may change when a run is extended."""
    optimizer, settings = (described.get(name) for name in ("optimizer", "settings"))
    schedule, objective = (described.get(name) for name in ("schedule", "objective"))
    if not (isinstance(optimizer, dict) and isinstance(settings, dict)):
        return described
    return {
        **described,
        # what its options are is tried
        "optimizer": {"name": optimizer.get("name")},
        "settings": {name: value for name, value in settings.items() if name not in EXTENDED},
        "schedule": COUNTS.sub(r"\1", str(schedule)),
        "objective": MULTIPLIERS.sub(r"\1", str(objective)),
    }


def check_same_program(saved: Any, graph_hash: str) -> None:
    """Check that a model computes what that of a run computed.

    Args:
        saved: What a checkpoint says of its run.
        graph_hash: Of the program that was built now, ``program.graph_hash``.

    Raises:
        CheckpointError: it computes something else.
    """
    if not isinstance(saved, dict) or saved.get("program") != graph_hash:
        raise CheckpointError(
            "the run trained another program: the model's code, a setting of its modules, or the "
            "installed versions have changed since; set them back"
        )


def _innermost(name: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """The first entry of tables that differs, with its path."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*now, *before)):
            if before.get(key) != now.get(key):
                return _innermost(f"{name}.{key}", before.get(key), now.get(key))
    return name, before, now


def _short(value: Any) -> str:
    """A value in one line."""
    text = " ".join(str(value).split())
    return text if len(text) <= 300 else f"{text[:297]}..."
