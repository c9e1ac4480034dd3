"""The objective, the schedule, the optimizer and the trainer's settings of a run.

The names of the configuration meet those of :mod:`fxtransport.objectives` and
:mod:`fxtransport.training` in this file only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fxtransport.errors import UsageError
from fxtransport.objectives import (
    Classification,
    CrossEntropy,
    FixedMultiplier,
    LapMultipliers,
    Multipliers,
    NoMultiplier,
    Objective,
    ProjectionCost,
    ReverseCrossEntropy,
    TauMultipliers,
    TransportCost,
    TrglMultipliers,
    WeightedCrossEntropy,
)
from fxtransport.objectives.neurons import parse_pool
from fxtransport.residue import Measure
from fxtransport.runs.config import Config
from fxtransport.training import (
    EndToEnd,
    MultiLap,
    OptimizerSettings,
    Parallel,
    Schedule,
    Sequential,
    TrainerSettings,
)

SCHEDULES = {
    "end-to-end": EndToEnd,
    "parallel": Parallel,
    "sequential": Sequential,
    "multi-lap": MultiLap,
}


@dataclass(frozen=True)
class RunSettings:
    """How a run trains: what :class:`fxtransport.training.Trainer` is given beside the program."""

    objective: Objective
    schedule: Schedule
    optimizer: OptimizerSettings
    trainer: TrainerSettings


def make_settings(config: Config, parts: int) -> RunSettings:
    """The settings that a configuration describes.

    Args:
        config: The run's.
        parts: How many parts the program has.

    Raises:
        UsageError: a number is out of range.
    """
    schedule = config.section("schedule")
    trainer = config.section("trainer")
    # they need the data, which fit_run has
    trainer.pop("monitors", None)
    return RunSettings(
        objective=_objective(config.section("objective"), parts),
        schedule=SCHEDULES[schedule.pop("name")](**schedule),
        optimizer=OptimizerSettings(**config.section("optimizer")),
        trainer=TrainerSettings(**{**trainer, "device": choose_device(config)}),
    )


def choose_device(config: Config) -> str:
    """Where to train, as torch names it."""
    return config.get("trainer.device") or ("cuda" if torch.cuda.is_available() else "cpu")


def settle(config: Config) -> Config:
    """The configuration with what the machine decides decided, for this and all later machines."""
    if config.get("trainer.amp") != "auto":
        return config
    amp = "fp16" if choose_device(config).startswith("cuda") else "bf16"
    return replace(config, values={**config.values, "trainer.amp": amp})


def spread_evenly(values: Sequence[float], parts: int) -> tuple[float, ...]:
    """One value for each part, in order; each value goes to as many parts as can be.

    >>> spread_evenly([0.5, 1.0], parts=5)
    (0.5, 0.5, 0.5, 1.0, 1.0)

    Raises:
        UsageError: there are more values than parts.
    """
    if len(values) > parts > 1:
        raise UsageError(f"there are {len(values)} values of tau, and {parts} parts")
    return tuple(values[k * len(values) // parts] for k in range(parts))


def _objective(found: dict[str, Any], parts: int) -> Objective:
    classification = _classification(found)
    if "p" not in found:
        return Objective(classification, TransportCost(), NoMultiplier())
    blocks = TransportCost(
        found["p"],
        found["reduction"],
        found["residue"],
        kinds=tuple(found["kinds"]),
        norms_alone=found["norms_alone"],
    )
    cost: Measure = blocks
    if "projections" in found:
        pool = parse_pool(found["projection_pool"])
        cost = ProjectionCost(found["projections"], blocks, pool)
    return Objective(classification, cost, _multipliers(found, parts))


def _classification(found: dict[str, Any]) -> Classification:
    if found["reverse"]:
        return ReverseCrossEntropy()
    if "class_weights" not in found:
        return CrossEntropy(found["label_smoothing"])
    weights = [float(number) for number in found["class_weights"].split(",")]
    return WeightedCrossEntropy(weights, found["label_smoothing"])


def _multipliers(found: dict[str, Any], parts: int) -> Multipliers:
    if found["method"] == "fixed":
        return FixedMultiplier(found["lambda0"])
    if found["method"] == "trgl":
        return TauMultipliers(spread_evenly(found["tau"], parts))
    kind = LapMultipliers if found["method"] == "lap" else TrglMultipliers
    return kind(found["lambda0"], found["lambda_rate"], found["update_every"], found["order"])
