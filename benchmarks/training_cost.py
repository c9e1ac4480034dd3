"""What training by transport costs in time: ratios of steps, taken in turn in one run.

The papers' ResNet-110 on 3×32×32 images, batch 64, SGD with momentum, by the library's trainer.
In every round each way makes one step on the same batch, in an order that changes, so that
a busy machine slows all alike, and ratios are taken round by round. On the CPU they are of
processor time, which other processes cannot take; those of wall time stand beside. The
rounds are made in several processes, one behind the other, for where a process happens to
have its memory changes a ratio by a percent, in all its rounds. The median counts; beside it
stand those of the single processes.

    python benchmarks/training_cost.py [--device cuda] [--processes 6] [--rounds 20]
"""

import copy
import multiprocessing
import os
import random
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import click
import torch
from common import spread, write
from rich.console import Console
from rich.table import Table
from torch import nn

from fxtransport import transportify
from fxtransport.nets import resnet110
from fxtransport.objectives import Objective, lap, plain, trgl, vangl
from fxtransport.training import EndToEnd, Parallel, Schedule, Trainer

SIZE, BATCH, CLASSES, MODULES = 32, 64, 10, 4


class Ratio(NamedTuple):
    """One way of training over another."""

    name: str
    numerator: str
    denominator: str
    target: float
    published: str


RATIOS = (
    Ratio("LAP over plain, end to end", "lap", "plain", 1.03, ""),
    Ratio(f"TRGL over VanGL, K={MODULES}", "trgl", "vangl", 1.02, "1.02"),
    Ratio(f"TRGL, K={MODULES}, over end to end", "trgl", "plain", 1.05, "1.06 (2) - 1.16 (16)"),
)


class Times(NamedTuple):
    """Of one step, in seconds."""

    processor: float
    wall: float


def trainer(model: nn.Module, objective: Objective, modules: int) -> Trainer:
    """A trainer of a copy of the model: of the whole, or in parallel."""
    schedule: Schedule = EndToEnd(1) if modules == 1 else Parallel(1)
    example = torch.empty(2, 3, SIZE, SIZE, device="meta")
    program = transportify(copy.deepcopy(model), example, modules=modules, verify=False)
    return Trainer(program, objective, schedule)


def timed_step(way: Trainer, images: torch.Tensor, targets: torch.Tensor) -> Times:
    """How long a step takes, until the device is done."""
    processor, wall = time.process_time(), time.perf_counter()
    way.step(images, targets)
    if images.is_cuda:
        torch.cuda.synchronize()
    return Times(time.process_time() - processor, time.perf_counter() - wall)


def measure(device: str, rounds: int, threads: int) -> dict[str, list[Times]]:
    """The times of all ways, round by round."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    order = random.Random(0)
    model = resnet110(num_classes=CLASSES).to(device)
    ways = {
        "plain": trainer(model, plain(), 1),
        "lap": trainer(model, lap(1.0, 0.1, 50), 1),
        "vangl": trainer(model, vangl(), MODULES),
        "trgl": trainer(model, trgl(0.5), MODULES),
    }
    images = torch.randn(BATCH, 3, SIZE, SIZE, device=device)
    targets = torch.randint(CLASSES, (BATCH,), device=device)
    times: dict[str, list[Times]] = {name: [] for name in ways}
    for count in range(-2, rounds):
        for name in order.sample(list(ways), len(ways)):
            found = timed_step(ways[name], images, targets)
            # the first rounds allocate memory
            if count >= 0:
                times[name].append(found)
    return times


def ratios_of(times: dict[str, list[Times]], ratio: Ratio, clock: str) -> list[float]:
    """One ratio, round by round, by one of the clocks."""
    pairs = zip(times[ratio.numerator], times[ratio.denominator], strict=True)
    return [getattr(a, clock) / getattr(b, clock) for a, b in pairs]


def quartiles(values: list[float]) -> str:
    """Median and middle half: ``1.012 (1.003-1.024)``."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--processes", default=6, show_default=True)
@click.option("--rounds", default=20, show_default=True, help="In each process.")
@click.option("--threads", default=1, show_default=True, help="Of the processor.")
def main(device: str, processes: int, rounds: int, threads: int) -> None:
    """Measure, print and write what training by transport costs."""
    runs = []
    for _ in range(processes):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            runs.append(process.submit(measure, device, rounds, threads).result())
    clock = "processor" if device == "cpu" else "wall"
    title = (
        f"ResNet-110, {SIZE}×{SIZE}, batch {BATCH}, {processes} processes of {rounds} rounds, "
        f"by {clock} time"
    )
    columns = ("median (middle half)", "of processes", "of wall time", "published", "target", "met")
    table = Table("", *columns, title=title)
    results: list[dict[str, Any]] = []
    for ratio in RATIOS:
        found = [ratios_of(times, ratio, clock) for times in runs]
        wall = [ratios_of(times, ratio, "wall") for times in runs]
        pooled = [value for values in found for value in values]
        medians = [statistics.median(values) for values in found]
        met = statistics.median(pooled) <= ratio.target
        table.add_row(
            ratio.name,
            quartiles(pooled),
            f"{min(medians):.3f}-{max(medians):.3f}",
            f"{statistics.median([value for values in wall for value in values]):.3f}",
            ratio.published,
            f"≤ {ratio.target}",
            "✓" if met else "✗",
        )
        results.append({"ratio": ratio._asdict(), clock: found, "wall": wall, "met": met})
    console = Console(width=140)
    console.print(table)
    for name in runs[0]:
        steps = [step.wall for times in runs for step in times[name]]
        console.print(f"{name}: {spread(steps)} s a step")
    if device == "cpu":
        console.print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    path = write("training_cost", device, {"title": title, "results": results})
    click.echo(f"written to {path.relative_to(path.parent.parent.parent)}")


if __name__ == "__main__":
    main()
