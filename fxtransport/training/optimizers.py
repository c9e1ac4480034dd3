"""timm's optimizers and learning rate schedules, one of each for every part."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers  # type: ignore[attr-defined]
from timm.scheduler.scheduler import Scheduler
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import nn

from fxtransport.errors import UsageError, first_line
from fxtransport.randomness import fork_rng
from fxtransport.training.layer_decay import OPTIONS, layered_groups
from fxtransport.training.settings import OptimizerSettings

_REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What timm and torch raise for arguments that are not valid."""
RATES = ("lr", "initial_lr")
"""The entries of a group of parameters by which timm's schedules set its learning rate."""
TRIED = 1000
"""The most epochs that a learning rate schedule is tried for."""
SCHEDULERS = ("cosine", "tanh", "step", "multistep", "poly", "wsd", "rsqrt", "constant", "none")
"""Learning rate schedules of timm that can be resumed."""
_SWITCHES = ("foreach", "fused")
"""Options that are true or false, and None by default."""


def create_optimizer(
    part: nn.Module, settings: OptimizerSettings, scales: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """An optimizer of a part's parameters, grouped by timm's rules of weight decay.

    Args:
        part: What to train. If it has a method ``no_weight_decay``, timm calls it.
        settings: Which optimizer.
        scales: What the learning rate of each parameter is multiplied by, by name; None: 1.

    Raises:
        UsageError: timm has no such optimizer or refuses an argument, or its step needs second
            derivatives.
    """
    options = {name: v for name, v in settings.options.items() if name not in OPTIONS}
    assert scales is not None or len(options) == len(settings.options), "layers need scales"
    if scales is not None:
        options["param_group_fn"] = partial(
            layered_groups, weight_decay=settings.weight_decay, scales=scales
        )
    try:
        optimizer = _optimizer(part, settings, options)
    except _REFUSALS as error:
        hint = _similar(settings.name, map(str, list_optimizers()))
        raise UsageError(
            f"timm cannot make the optimizer {settings.name!r}: {error}{hint}"
        ) from error
    if getattr(optimizer, "is_second_order", False):
        raise UsageError(
            f"the optimizer {settings.name!r} needs second derivatives, for which the graph of a "
            "part would have to be kept; use one that needs gradients only"
        )
    if settings.scheduler == "none":
        # schedules multiply by lr_scale, and there is none
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)
    return optimizer


def _check_switches(settings: OptimizerSettings, defaults: Mapping[str, Any]) -> None:
    """See that options are true or false that are so by default."""
    for name, value in settings.options.items():
        is_switch = name in _SWITCHES or isinstance(defaults.get(name), bool)
        if is_switch and not isinstance(value, bool | None):
            raise UsageError(
                f"the optimizer {settings.name!r}: {name} is true or false, not {value!r}"
            )


@dataclass(frozen=True)
class EarlierOptimizer:
    """The optimizer that a run had so far.

    Args:
        settings: Which one.
        scales: As :func:`create_optimizer` takes them.
    """

    settings: OptimizerSettings
    scales: Mapping[str, float] | None = None


def take_over(
    optimizer: torch.optim.Optimizer, earlier: torch.optim.Optimizer, saved: dict[str, Any]
) -> None:
    """Load the state of an optimizer into one of the same parameters with other options.

    Moments go with their parameters, which may be grouped otherwise: timm makes one group less
    without weight decay. Of what groups hold, learning rates and what differs between the two
    optimizers are the new one's; the rest, such as counts of steps, is as it was saved.

    Args:
        optimizer: The one that goes on.
        earlier: Made as the one was whose state was saved, and changed here.
        saved: Its state.
    """
    fresh = [dict(group) for group in earlier.param_groups]
    earlier.load_state_dict(saved)
    moments = earlier.state_dict()["state"]
    groups = [group["params"] for group in earlier.param_groups]
    places = {id(p): place for place, p in enumerate(p for group in groups for p in group)}
    sources = {id(p): number for number, group in enumerate(groups) for p in group}
    state = optimizer.state_dict()
    own = [p for group in optimizer.param_groups for p in group["params"]]
    state["state"] = {
        place: moments[places[id(p)]] for place, p in enumerate(own) if places[id(p)] in moments
    }
    for group, made in zip(state["param_groups"], optimizer.param_groups, strict=True):
        if not made["params"]:
            continue
        source = sources[id(made["params"][0])]
        for name, value in earlier.param_groups[source].items():
            same = fresh[source].get(name) == made.get(name)
            if same and name not in (*RATES, "params"):
                group[name] = value
    optimizer.load_state_dict(state)


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
            + _similar(settings.scheduler, SCHEDULERS)
        ) from error
    warmup = options.get("warmup_epochs", 0)
    if scheduler is not None and isinstance(warmup, int | float) and warmup > epochs:
        raise UsageError(
            f"the learning rate would rise for {warmup} epochs, and a part trains {epochs}: it "
            "would never be reached; set fewer warmup_epochs, or train longer"
        )
    if length != epochs:
        raise UsageError(
            f"the scheduler {settings.scheduler!r} with {options} lasts {length} epochs, and a "
            f"part trains {epochs}; change its warm-up prefix, cool-down or cycles"
        )
    assert scheduler is None or isinstance(scheduler, Scheduler)
    return scheduler


def _similar(name: str, known: Iterable[str]) -> str:
    """Which names were meant, in words; nothing of a name that is known."""
    names = list(known)
    if name.lower() in names:
        return ""
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    return (
        f"; did you mean {', '.join(close)}?" if close else f"; there are {', '.join(names[:12])}"
    )


def _optimizer(
    part: nn.Module, settings: OptimizerSettings, options: Mapping[str, Any]
) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = create_optimizer_v2(
        part,
        opt=settings.name,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        **options,
    )
    return made


def try_change(earlier: OptimizerSettings, settings: OptimizerSettings) -> None:
    """Let a small model go on with other options, so that what cannot be is noticed now.

    Raises:
        UsageError: the optimizer cannot go on with its state: it would need moments that it has
            not kept so far.
    """
    changed = [
        f"{name} {value!r}"
        for name in ("weight_decay", "momentum", "options")
        if (value := getattr(settings, name)) != getattr(earlier, name)
    ]
    if not changed:
        return
    with fork_rng(0):
        model = nn.Linear(2, 2)
        made = [_create_for_trial(model, each) for each in (earlier, earlier, settings)]
        try:
            _make_steps(model, made[0])
            take_over(made[2], made[1], made[0].state_dict())
            _make_steps(model, made[2])
        except _REFUSALS as error:
            raise UsageError(
                f"the optimizer {settings.name!r} cannot go on with {' and '.join(changed)}, for "
                f"what it has kept so far does not suffice ({type(error).__name__}: "
                f"{first_line(error)}): leave that out, or begin another run with these weights"
            ) from error
        except RuntimeError:
            # some run on one kind of device alone, and the run's first step is on that
            return


def _create_for_trial(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    # its layers are not the model's, whose scales have been looked up
    layered = not settings.options.keys().isdisjoint(OPTIONS)
    return create_optimizer(model, settings, {} if layered else None)


def _make_steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(2):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()


def try_optimizer(settings: OptimizerSettings, epochs: int) -> None:
    """Train a small model for a moment, so that options that cannot be used are noticed now.

    Args:
        settings: The optimizer and its learning rate schedule.
        epochs: How long the learning rate schedule lasts.

    Raises:
        UsageError: a step cannot be made, or a learning rate cannot be set.
    """
    with fork_rng(0):
        model = nn.Linear(2, 2)
        _check_switches(settings, create_optimizer(model, replace(settings, options={})).defaults)
        optimizer = _create_for_trial(model, settings)
        scheduler = create_scheduler(optimizer, settings, epochs)
        try:
            _make_steps(model, optimizer)
        except _REFUSALS as error:
            raise UsageError(
                f"the optimizer {settings.name!r} with {dict(settings.options)} cannot make a "
                f"step: {first_line(error)}"
            ) from error
        except RuntimeError:
            # some run on one kind of device alone, and the run's first step is on that
            return
        try:
            last = 0 if scheduler is None else min(epochs, TRIED)
            for epoch in range(1, last + 1):
                assert scheduler is not None
                scheduler.step(epoch)
                scheduler.step_update(epoch)
        except _REFUSALS as error:
            raise UsageError(
                f"the scheduler {settings.scheduler!r} with {dict(settings.scheduler_options)} "
                f"cannot set a learning rate: {first_line(error)}"
            ) from error
