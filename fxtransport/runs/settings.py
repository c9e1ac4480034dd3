"""The objective, the schedule and the settings of a run, made from its configuration."""

from typing import Any

import torch

from fxtransport.objectives import (
    CrossEntropy,
    Fixed,
    Greedy,
    ModuleMultipliers,
    Multiplier,
    NoCost,
    Objective,
    ReverseCrossEntropy,
    TransportCost,
    Weighting,
)
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


def objective_of(config: Config) -> Objective:
    """The objective that is minimised.

    Raises:
        UsageError: a number is out of range.
    """
    found = config.section("objective")
    classification = (
        ReverseCrossEntropy() if found["reverse"] else CrossEntropy(found["label_smoothing"])
    )
    if "p" not in found:
        return Objective(classification, TransportCost(), NoCost())
    cost = TransportCost(
        found["p"], found["reduction"], found["residue"], kinds=tuple(found["kinds"])
    )
    return Objective(classification, cost, _weighting(found))


def schedule_of(config: Config) -> Schedule:
    """Which modules train when."""
    found = config.section("schedule")
    kinds = {
        "end-to-end": EndToEnd,
        "parallel": Parallel,
        "sequential": Sequential,
        "multi-lap": MultiLap,
    }
    return kinds[found.pop("name")](**found)


def optimizer_of(config: Config) -> OptimizerSettings:
    """How each module is optimised."""
    return OptimizerSettings(**config.section("optimizer"))


def settings_of(config: Config) -> TrainerSettings:
    """How the trainer runs."""
    return TrainerSettings(**{**config.section("trainer"), "device": device_of(config)})


def device_of(config: Config) -> str:
    """Where to train, as torch names it."""
    return config.get("trainer.device") or ("cuda" if torch.cuda.is_available() else "cpu")


def _weighting(found: dict[str, Any]) -> Weighting:
    if "lambda0" in found:
        kind = Multiplier if found["method"] == "lap" else ModuleMultipliers
        return kind(found["lambda0"], found["lambda_rate"], found["every"], found["order"])
    if "tau" in found:
        return Greedy(found["tau"], found["doubled"])
    return Fixed(found["fixed_weight"])
