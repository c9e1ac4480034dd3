"""What training a model takes in memory, for every number of parts, and what fits a budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from fxtransport.byte_sizes import parse_bytes
from fxtransport.example_inputs import ExampleInputs, example_of
from fxtransport.fitting import Fit, fit_batch, fit_modules, reserve_of
from fxtransport.input_size import InputSize, SizeLike
from fxtransport.ir import Balance
from fxtransport.names import ModelSpec, resolve
from fxtransport.planner import Planner, Row, Training
from fxtransport.runs.config import complete_config
from fxtransport.runs.keys.key import GREEDY
from fxtransport.runs.settings import make_settings
from fxtransport.step_timing import Timing, time_steps
from fxtransport.submodule import Target
from fxtransport.targets import open_target
from fxtransport.training import OptimizerSettings
from fxtransport.training.memory import MemoryKind
from fxtransport.wrappers import unwrap

BATCH_SIZE = 32
"""Samples in a batch where neither a batch size nor a budget is given."""


@dataclass(frozen=True)
class PlanRow:
    """A partition, and what training by it takes."""

    modules: int
    balance: str
    """What is even among the parts."""
    cuts: tuple[str, ...]
    """The modules or nodes to cut after."""
    peak_bytes: int
    kinds: Mapping[MemoryKind, int]
    """What the peak consists of, in bytes."""
    step_time: float
    """The time of a step, relative to end to end."""
    seconds: float | None = None
    """The time of a step; None where no step was timed."""

    def as_json(self) -> dict[str, Any]:
        """Its values, as JSON has them."""
        return {
            "modules": self.modules,
            "balance": self.balance,
            "peak_bytes": self.peak_bytes,
            "cuts": list(self.cuts),
            "kinds": {str(kind): size for kind, size in self.kinds.items()},
            "step_time": round(self.step_time, 4),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class MemoryPlan:
    """What training a model takes in memory; see :func:`plan`."""

    model: str
    batch_size: int
    method: str
    optimizer: str
    amp: str | None
    device: str
    end_to_end: PlanRow
    rows: tuple[PlanRow, ...]
    """Every number of parts, from 2 on, and every balance."""
    fit: Fit | None
    """What fits the budget; None where there is none."""
    fit_time: float | None
    """The time of its step, relative to end to end."""
    budget: int | None
    reserve: int
    """How much of the budget is not for tensors, in bytes."""

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        fit = None
        if self.fit is not None:
            fit = {
                "modules": self.fit.modules,
                "balance": str(self.fit.balance),
                "cuts": list(self.fit.names),
                "batch_size": self.fit.batch_size,
                "peak_bytes": self.fit.peak_bytes,
                "checkpoint_activations": self.fit.checkpoint_activations,
                "checkpoint_blocks": list(self.fit.checkpoint_blocks),
                "recompute_norms": self.fit.recompute_norms,
                "step_time": None if self.fit_time is None else round(self.fit_time, 4),
                "budget_bytes": self.budget,
                "reserve_bytes": self.reserve,
            }
        whole = self.end_to_end.as_json()
        return {
            "model": self.model,
            "batch_size": self.batch_size,
            "method": self.method,
            "optimizer": self.optimizer,
            "amp": self.amp,
            "device": self.device,
            "end_to_end": {key: whole[key] for key in ("peak_bytes", "kinds", "seconds")},
            "rows": [row.as_json() for row in self.rows],
            "fit": fit,
        }


def plan(
    model: nn.Module | str | ModelSpec,
    example_inputs: ExampleInputs | None = None,
    *,
    batch_size: int | None = None,
    method: str = "trgl",
    optimizer: str = "momentum",
    amp: str | None = None,
    recompute_norms: bool = False,
    device: str = "cpu",
    input_size: SizeLike | InputSize | None = None,
    modules: int | None = None,
    fit: int | str | None = None,
    measure: bool = False,
    **options: Any,
) -> MemoryPlan:
    """Predict the peak memory of training, end to end and in parts, and choose what fits.

    A training step is rehearsed on tensors without data: no weights are allocated, and there need
    not be such a device. Several parts train in parallel, each on what the one before hands on.

    Args:
        model: A model, or the name of one.
        example_inputs: As :func:`fxtransport.transportify` takes them; not with a name.
        batch_size: Samples in a batch; 32 by default, and with a budget the largest that fits.
        method: The objective, by its name in ``fxtransport train --method``. End to end, the
            methods that train part by part are compared with the classification loss alone.
        optimizer: A name in ``timm.optim``.
        amp: ``bf16``, ``fp16``, or None.
        recompute_norms: Whether norms and activations are computed again in the backward pass, as
            by :attr:`fxtransport.training.TrainerSettings.recompute_norms`.
        device: ``cpu`` or ``cuda``.
        input_size: The size of the input, of a model that is given by name.
        modules: Consider this number of parts only.
        fit: A budget in bytes, or a text such as ``8GiB``. It is the allocator's peak and a
            reserve: 3 % for fragmentation, and 600 MiB for the context on CUDA. The smallest number
            of parts is chosen that fits, with the cuts of least memory; where none does, the
            smallest that fits if norms and activations are computed again, and then of as few
            residual blocks as needed.
            A batch size that is given is never made smaller.
        measure: Time real steps, on the device and with weights, to say what steps take.
        options: The options of programs that concern heads, as :func:`fxtransport.transportify`
            takes them.

    Raises:
        MemoryBudgetError: nothing fits; the error says what would.
        FxTransportError: the model cannot be built, traced or cut, or an option is not valid.

    >>> found = plan("resnet18", batch_size=64, input_size=64, fit="190MiB")
    >>> found.end_to_end.peak_bytes > found.fit.peak_bytes, found.fit.modules
    (True, 2)
    """
    budget = None if fit is None else parse_bytes(fit)
    target = _target(model, example_inputs, input_size)
    training = make_training(method, optimizer, amp, device, recompute_norms=recompute_norms)
    planner = Planner(target, options, training, batch_size or BATCH_SIZE)
    chosen: Fit | None = None
    if budget is not None and batch_size is None:
        chosen = fit_batch(planner, budget, modules)
        planner = planner.at(chosen.batch_size)
    elif budget is not None:
        chosen = fit_modules(planner, budget, modules)
    rows = [*planner.rows(modules)]
    timing = time_steps(planner, rows) if measure else None
    whole = planner.end_to_end
    return MemoryPlan(
        model=target.name,
        batch_size=planner.batch_size,
        method=method,
        optimizer=optimizer,
        amp=amp,
        device=device,
        end_to_end=PlanRow(
            1,
            str(Balance.MEMORY),
            (),
            whole.peak_bytes,
            whole.kinds,
            1.0,
            None if timing is None else timing.whole,
        ),
        rows=tuple(_row(planner, row, timing) for row in rows),
        fit=chosen,
        fit_time=None if chosen is None else _step_time(planner, chosen.flops, timing),
        budget=budget,
        reserve=0 if budget is None else reserve_of(budget, device),
    )


def make_training(
    method: str, optimizer: str, amp: str | None, device: str, *, recompute_norms: bool = False
) -> Training:
    """How a method trains: several parts in parallel, and the whole end to end.

    Raises:
        UsageError: there is no such method, or a value is not valid.
    """
    set_for: dict[str, Any] = {
        "model.name": "-",
        "optimizer.name": optimizer,
        "trainer.device": device,
        "trainer.recompute_norms": recompute_norms,
    }
    if amp is not None:
        set_for["trainer.amp"] = amp
    by_parts = "vangl" if method == "e2e" else method
    parts = complete_config({**set_for, "objective.method": by_parts, "schedule.name": "parallel"})
    alone = "e2e" if method in GREEDY else method
    whole = complete_config({**set_for, "objective.method": alone})
    settings = make_settings(parts, 1)
    return Training(
        objective=lambda count: make_settings(parts, count).objective,
        schedule=settings.schedule,
        optimizer=settings.optimizer,
        settings=settings.trainer,
        device=device,
        whole=lambda count: make_settings(whole, count).objective,
    )


def fit_settings(target: Target, settings: Mapping[str, Any], budget: int | str) -> dict[str, Any]:
    """The options of the program of fewest parts with which training fits a budget.

    Several parts train in parallel with TRGL.

    Args:
        target: What is compiled.
        settings: The options that are given. ``modules`` is kept, and so is ``batch_size``; without
            one the batch is as large as fits. ``optimizer`` and ``amp`` say how it is to train.
        budget: In bytes, or a text such as ``8GiB``; see :func:`plan`.

    Returns:
        The options, with the cuts.

    Raises:
        MemoryBudgetError: nothing fits.
    """
    amp = settings.get("amp", "none")
    optimizer = settings.get("optimizer", OptimizerSettings.name)
    training = make_training("trgl", optimizer, None if amp == "none" else amp, "cpu")
    planner = Planner(target, settings, training, settings.get("batch_size", BATCH_SIZE))
    choose = fit_modules if "batch_size" in settings else fit_batch
    # a program does not say whether its activations are computed again when it is trained
    found = choose(planner, parse_bytes(budget), settings.get("modules"), checkpoint=False)
    chosen = {**settings, "batch_size": found.batch_size, "modules": found.modules}
    return {**chosen, "cuts": found.names, "balance": str(found.balance)}


def _target(
    model: nn.Module | str | ModelSpec,
    example_inputs: ExampleInputs | None,
    input_size: SizeLike | InputSize | None,
) -> Target:
    if not isinstance(model, nn.Module):
        spec = resolve(model) if isinstance(model, str) else model
        # a factory in a file may need real tensors
        device = None if spec.library == "file" else "meta"
        return open_target(spec, input_size=input_size, device=device)
    model = unwrap(model)
    return Target(model, example_of(model, example_inputs))


def _step_time(planner: Planner, flops: int, timing: Timing | None) -> float:
    """The time of a step, by its operations, relative to end to end."""
    ratio = flops / planner.flops if planner.flops else 1.0
    return ratio if timing is None else timing.ratio(ratio)


def _row(planner: Planner, row: Row, timing: Timing | None) -> PlanRow:
    ratio = _step_time(planner, row.flops, timing)
    seconds = None if timing is None else timing.whole * ratio
    return PlanRow(
        row.modules,
        str(row.balance),
        planner.names(row.cuts),
        row.peak_bytes,
        row.kinds,
        ratio,
        seconds,
    )
