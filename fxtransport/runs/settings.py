"""The objective, the schedule and the settings of a run, made from its configuration."""

from typing import Any

import torch

from fxtransport.objectives import (
    CrossEntropy,
    FixedMultiplier,
    LapMultipliers,
    Multipliers,
    NoMultiplier,
    Objective,
    ReverseCrossEntropy,
    TauMultipliers,
    TransportCost,
    TrglMultipliers,
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


def objective_of(config: Config, parts: int) -> Objective:
    """The objective that is minimized.

    Args:
        config: The configuration of the run.
        parts: The number of parts of its program.

    Raises:
        UsageError: a number is out of range.
    """
    found = config.section("objective")
    classification = (
        ReverseCrossEntropy() if found["reverse"] else CrossEntropy(found["label_smoothing"])
    )
    if "p" not in found:
        return Objective(classification, TransportCost(), NoMultiplier())
    cost = TransportCost(
        found["p"], found["reduction"], found["residue"], kinds=tuple(found["kinds"])
    )
    return Objective(classification, cost, _multipliers(found, parts))


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
    found = config.section("trainer")
    found["update_frozen_bn"] = found.pop("drift")
    return TrainerSettings(**{**found, "device": device_of(config)})


def device_of(config: Config) -> str:
    """Where to train, as torch names it."""
    return config.get("trainer.device") or ("cuda" if torch.cuda.is_available() else "cpu")


def _multipliers(found: dict[str, Any], parts: int) -> Multipliers:
    if "lambda0" in found:
        kind = LapMultipliers if found["method"] == "lap" else TrglMultipliers
        return kind(found["lambda0"], found["lambda_rate"], found["every"], found["order"])
    if "tau" not in found:
        return FixedMultiplier(found["fixed_weight"])
    if not found["doubled"]:
        return TauMultipliers(found["tau"])
    # of an odd number of parts, the one in the middle is in the first half
    second = parts // 2
    return TauMultipliers([found["tau"]] * (parts - second) + [2 * found["tau"]] * second)
