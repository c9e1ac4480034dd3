"""What a run's configuration was when it began, and whether it still is."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fxtransport.errors import CheckpointError, UsageError
from fxtransport.ir import PUBLISHED, HeadKind
from fxtransport.runs.config import CONFIG, Config, complete_config, default_of, read_config
from fxtransport.runs.keys import all_keys
from fxtransport.training.checkpoint import CHECKPOINT, RunFolder

Changes = Mapping[str, tuple[Any, Any]]
"""Keys, with the values that they had and have."""


def describe_config(config: Config) -> dict[str, Any]:
    """Every key that decides what is computed, with its value: what checkpoints keep."""
    values = config.values
    return {path: v for path, v in values.items() if not all_keys()[path].may_change(values)}


def read_run(run: Path) -> Config:
    """The configuration that is saved with a run.

    Raises:
        UsageError: the folder does not hold a run.
        CheckpointError: the run is of a version that this one does not read, it is damaged, or
            its configuration was changed after it began.
    """
    path = run / CONFIG
    if not os.path.lexists(path):
        raise UsageError(f"{run} does not hold a run of fxtransport train: it has no {CONFIG}")
    # before its keys, whose names may have changed since
    RunFolder(run).summary()
    values = read_config(path, follow=False)
    if "model.name" not in values:
        raise UsageError(f"{path} names no model: it is empty, or not what a run wrote")
    config = complete_config(_with_known_heads(values))
    check_same_config(run, config)
    return config


def check_same_config(run: Path, config: Config, *, extend: bool = False) -> Changes:
    """Check that a configuration is the one that a run began with, if it has a checkpoint.

    Args:
        run: The run's folder.
        config: What ``config.toml`` in it says, or what the run is to go on with.
        extend: Whether keys may have other values that count from there on.

    Returns:
        The keys that have, with the values before and now.

    Raises:
        CheckpointError: a key has another value, or the checkpoint is damaged.
    """
    about = _about(run)
    if about is None:
        return {}
    saved = about.get("config")
    if not isinstance(saved, dict):
        raise CheckpointError(f"{run} was not trained from a configuration, or it is damaged")
    saved, present = _with_known_heads(saved), describe_config(config)
    changes: dict[str, tuple[Any, Any]] = {}
    for path in dict.fromkeys((*present, *saved)):
        before, now = _value(saved, path), _value(present, path)
        key = all_keys().get(path)
        if before != now and extend and key is not None and key.continues(config.values):
            changes[path] = (before, now)
        elif before != now:
            raise CheckpointError(
                f"{run / CONFIG} was changed after the run began: {path} is {_said(now)}, and was "
                f"{_said(before)}; set it back, or train another run in another folder"
            )
    return changes


def read_history(run: Path) -> list[dict[str, Any]]:
    """How a run was extended so far, as :func:`extended` writes it.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    history = (_about(run) or {}).get("history", [])
    if not isinstance(history, list):
        raise CheckpointError(f"{run / CHECKPOINT} is damaged: it does not say how it was extended")
    return history


def extended(epochs: int, changes: Changes) -> dict[str, Any]:
    """That a run was extended, as JSON.

    Args:
        epochs: After how many of its epochs.
        changes: The keys that have other values since.
    """
    return {
        "epochs": epochs,
        **{path: [_said(before), _said(now)] for path, (before, now) in changes.items()},
    }


def _about(run: Path) -> dict[str, Any] | None:
    """What the last checkpoint of a run says of its configuration; None if there is none."""
    summary = RunFolder(run).summary()
    if summary is None:
        return None
    about = summary.get("about")
    return about if isinstance(about, dict) else {}


def _with_known_heads(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a run had as heads, by the names of today: DGL's, of before heads had a budget."""
    if "program.head_budget" in values:
        # what a run writes has every key
        return dict(values)
    head = values.get("program.head", str(HeadKind.AUTO))
    known = str(PUBLISHED.get(HeadKind(head), head)) if head in [*HeadKind] else head
    return {**values, "program.head": known}


def _value(values: Mapping[str, Any], path: str) -> Any:
    """A value; of a key that did not exist yet when the run began, the default."""
    if path in values:
        return values[path]
    return default_of(path) if path in all_keys() else None


def _said(value: Any) -> str:
    return "not set" if value is None else repr(value)
