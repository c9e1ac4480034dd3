"""timm's optimizers and learning rate schedules, one of each for every part."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from timm.scheduler.scheduler import Scheduler
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import nn

from fxtransport.errors import MODEL_ERRORS, UsageError, first_line
from fxtransport.randomness import fork_rng
from fxtransport.training.settings import OptimizerSettings

_REFUSALS = (AssertionError, AttributeError, KeyError, TypeError, ValueError)
"""What timm and torch raise for arguments that are not valid."""
_SWITCHES = ("foreach", "fused")
"""Options that are true or false, and None by default."""


def create_optimizer(part: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """An optimizer of a part's parameters, grouped by timm's rules of weight decay.

    Args:
        part: What to train. If it has a method ``no_weight_decay``, timm calls it.
        settings: Which optimizer.

    Raises:
        UsageError: timm has no such optimizer or refuses an argument, or its step needs second
            derivatives.
    """
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            part,
            opt=settings.name,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            **settings.options,
        )
    except _REFUSALS as error:
        raise UsageError(f"timm cannot make the optimizer {settings.name!r}: {error}") from error
    if getattr(optimizer, "is_second_order", False):
        raise UsageError(
            f"the optimizer {settings.name!r} needs second derivatives, for which the graph of a "
            "part would have to be kept; use one that needs gradients only"
        )
    return optimizer


def check_optimizer(settings: OptimizerSettings, epochs: int) -> None:
    """Make a step of two weights, and the first and the last step of their rate.

    What timm and torch notice only when they use a value is so noticed before a run begins.

    Args:
        settings: The optimizer and the learning rate schedule.
        epochs: The number of epochs of a part.

    Raises:
        UsageError: an option is of another kind than its default, or cannot be used.
    """
    with fork_rng(0):
        part = nn.Linear(2, 2)
        _check_switches(settings, create_optimizer(part, replace(settings, options={})).defaults)
        optimizer = create_optimizer(part, settings)
        scheduler = create_scheduler(optimizer, settings, epochs)
        for parameter in part.parameters():
            parameter.grad = torch.full_like(parameter, 0.1)
        try:
            for _ in range(2):  # the first has no momentum yet
                optimizer.step()
            if scheduler is not None:
                for epoch in (1, epochs):
                    scheduler.step(epoch)
        except MODEL_ERRORS as error:
            given = {**settings.options, **settings.scheduler_options}
            said = ", ".join(f"{name}={value}" for name, value in given.items()) or "no options"
            raise UsageError(
                f"{settings.name} with the scheduler {settings.scheduler} cannot make a step with "
                f"{said}: {type(error).__name__}: {first_line(error)}"
            ) from error


def _check_switches(settings: OptimizerSettings, defaults: Mapping[str, Any]) -> None:
    """See that options are true or false that are so by default."""
    for name, value in settings.options.items():
        is_switch = name in _SWITCHES or isinstance(defaults.get(name), bool)
        if is_switch and not isinstance(value, bool | None):
            raise UsageError(
                f"the optimizer {settings.name!r}: {name} is true or false, not {value!r}"
            )


def create_scheduler(
    optimizer: torch.optim.Optimizer, settings: OptimizerSettings, epochs: int
) -> Scheduler | None:
    """A learning rate schedule of a part; None if the rate is constant.

    Args:
        optimizer: The optimizer of the part.
        settings: Which learning rate schedule.
        epochs: The number of epochs for which the part trains, over all laps.

    Raises:
        UsageError: timm has no such schedule or refuses an argument, or the schedule has
            another length.
    """
    options: dict[str, Any] = dict(settings.scheduler_options)
    if settings.scheduler == "plateau":
        raise UsageError(
            "the scheduler 'plateau' cannot be resumed, since timm does not save its state; "
            "use 'cosine', 'multistep' or another that depends on the epoch alone"
        )
    if not options.get("step_on_epochs", True) and not options.get("updates_per_epoch"):
        raise UsageError(
            "step_on_epochs=False needs updates_per_epoch, the number of steps in an epoch"
        )
    try:
        scheduler, length = create_scheduler_v2(
            optimizer, sched=settings.scheduler, num_epochs=epochs, **options
        )
    except _REFUSALS as error:
        raise UsageError(
            f"timm cannot make the scheduler {settings.scheduler!r}: {error}"
        ) from error
    if length != epochs:
        raise UsageError(
            f"the scheduler {settings.scheduler!r} with {options} lasts {length} epochs, and a "
            f"part trains {epochs}; change its warm-up prefix, cool-down or cycles"
        )
    assert scheduler is None or isinstance(scheduler, Scheduler)
    return scheduler
