"""Real training steps, timed: what the operations of heads cost beside those of the model."""

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fxtransport.compiler import program_of
from fxtransport.ir import Boundary
from fxtransport.passes.lower import Lower
from fxtransport.passes.pipeline import run_passes
from fxtransport.planner import Planner, Row
from fxtransport.program_options import configure_passes
from fxtransport.training import EndToEnd, Trainer, keep_freed_memory
from fxtransport.unit import Unit

STEPS = 3
"""Steps that are timed, after one that is not."""


@dataclass(frozen=True)
class Timing:
    """What steps take."""

    whole: float
    """Seconds of a step end to end."""
    slope: float
    """The time of a step's additional operations, relative to that of the model's own."""

    def ratio(self, flops: float) -> float:
        """The time of a step, relative to end to end, of so many times the operations."""
        return 1 + (flops - 1) * self.slope


def time_steps(planner: Planner, rows: Sequence[Row]) -> Timing:
    """Time steps end to end, and in the parts that add most operations.

    The model's weights are made, at random, on the device of training.

    Args:
        planner: For the model and the batch size.
        rows: The partitions to choose from.
    """
    device = planner.training.device
    if device == "cpu":
        keep_freed_memory()
    model = _with_data(planner.target.model, torch.device(device))
    whole = _seconds(planner, model, ())
    most = max(rows, key=lambda row: row.flops, default=None)
    added = 0.0 if most is None else most.flops / planner.flops - 1
    if most is None or added < 0.01:
        return Timing(whole, 1.0)
    return Timing(whole, max(0.0, _seconds(planner, model, most.cuts) / whole - 1) / added)


def _with_data(model: nn.Module, device: torch.device) -> nn.Module:
    """A copy of a model with small random weights; from the meta device too."""
    memo: dict[int, object] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        data = torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)
        if tensor.is_floating_point():
            data.normal_(0, 0.02).abs_()
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(data, tensor.requires_grad) if is_parameter else data
    return copy.deepcopy(model, memo)


def _seconds(planner: Planner, model: nn.Module, cuts: Sequence[Boundary]) -> float:
    """The median time of a step."""
    training = planner.training
    options = {**planner.options, "cuts": planner.names(cuts), "balance": "depth"}
    unit = Unit(model, planner.target.example)
    program = program_of(run_passes(unit, (*configure_passes(options), Lower())))
    objective = training.objective if cuts or training.whole is None else training.whole
    schedule = training.schedule if cuts else EndToEnd(1)
    trainer = Trainer(
        program,
        objective(len(cuts) + 1),
        schedule,
        optimizer=training.optimizer,
        settings=training.settings,
    )
    images = program.facts.example.resized(planner.batch_size, training.device)
    for tensor in images:
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            tensor.normal_()
        elif isinstance(tensor, torch.Tensor):
            tensor.zero_()
    targets = torch.zeros(planner.batch_size, dtype=torch.int64, device=training.device)
    times = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        trainer.step(images if len(images) > 1 else images[0], targets)
        if targets.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])
