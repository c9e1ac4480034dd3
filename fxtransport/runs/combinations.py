"""Which settings of a run go together."""

from collections.abc import Mapping
from typing import Any

from fxtransport.errors import UsageError
from fxtransport.runs.keys import DefaultBy, all_keys

LENGTHS = ("schedule.epochs", "schedule.steps", "schedule.images")
"""The keys that say how long a run trains."""

CHECKPOINTED = ("trainer.checkpoint_activations", "trainer.checkpoint_blocks")
"""The keys that say which residual blocks are computed again."""

Values = Mapping[str, Any]
"""What was set, by path."""


def check_together(given: Values, found: Values) -> None:
    """Check that what was set has a meaning beside the rest.

    Args:
        given: What was set.
        found: All values, defaults included.

    Raises:
        UsageError: two values exclude each other, or one needs another.
    """
    for path in given:
        default = all_keys()[path].default
        if isinstance(default, DefaultBy) and found.get(default.path) not in default.values:
            value = found.get(default.path)
            state = f"is {value}" if value is not None else "is not set"
            raise UsageError(
                f"{path} has no meaning where {default.path} {state}: it goes with "
                f"{', '.join(map(str, default.values))}"
            )
    several = found["program.blockwise"] or found.get("program.cuts")
    method, schedule = found["objective.method"], found["schedule.name"]
    if method == "e2e" and schedule != "end-to-end":
        raise UsageError(
            f"objective.method e2e trains end to end; with schedule.name {schedule} take vangl"
        )
    if schedule == "end-to-end" and (several or found["program.modules"] > 1):
        raise UsageError(
            "end-to-end training trains the program as one part: leave program.modules, "
            "program.cuts and program.blockwise out, or set schedule.name to parallel, sequential "
            "or multi-lap"
        )
    if several and "program.modules" in given:
        raise UsageError(
            "the number of parts follows from program.blockwise or program.cuts: leave "
            "program.modules out"
        )
    if found.get("program.fit") and several:
        raise UsageError(
            "program.fit chooses the cuts: leave out program.cuts and program.blockwise"
        )
    counts = found.get("trainer.checkpoint_blocks") is not None
    if counts and found["trainer.checkpoint_activations"]:
        raise UsageError(
            "trainer.checkpoint_activations computes all residual blocks again, and "
            "trainer.checkpoint_blocks says how many: leave one of the two out"
        )
    if counts and found.get("program.fit"):
        raise UsageError(
            "program.fit chooses how many blocks are computed again: leave out "
            "trainer.checkpoint_blocks"
        )
    if found["program.blockwise"] and found.get("program.cuts"):
        raise UsageError("program.blockwise and program.cuts are mutually exclusive")
    _check_length(given, found)
    _check_transfer(found)


def _check_length(given: Values, found: Values) -> None:
    """Check that it is said once how long a run trains."""
    lengths = [p for p in LENGTHS if p in given]
    if len(lengths) > 1:
        raise UsageError(f"{' and '.join(lengths)} all say how long to train: give one of them")
    if found.get("program.fit") and "schedule.steps" in given:
        raise UsageError(
            "program.fit may choose the batch size, on which the epochs for schedule.steps depend: "
            "give schedule.epochs or schedule.images"
        )


def _check_transfer(found: Values) -> None:
    """Check that there is a teacher where one is needed."""
    if found["transfer.start"] and found.get("model.initial_checkpoint"):
        raise UsageError(
            "transfer.start and model.initial_checkpoint both say with which weights to begin: "
            "leave one of the two out"
        )
    if "transfer.teacher" in found:
        return
    if found["transfer.start"]:
        raise UsageError("transfer.start begins with a teacher's weights: set transfer.teacher")
    terms = found.get("transfer.regularizer") or {}
    alone = [name for name in terms if name != "l2"]
    if alone:
        raise UsageError(f"{alone[0]} compares with a teacher: set transfer.teacher")
