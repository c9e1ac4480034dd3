"""The time that training with a transport cost takes: ratios of steps, made in turn.

The papers' ResNet-110, batch 64, SGD with momentum, by the library's trainer: on 3×96×96 images,
as published, and on 3×32×32, where kernels are so small that calling them takes a share of the
time. In every round each method makes one step on the same batch, in a random order, so that a
busy machine slows all of them, and ratios are taken round by round. On the CPU they are of
processor time, which other processes do not change. The rounds are made in several processes, one
after the other, since the placement of a process's memory changes a ratio by a percent, in all its
rounds. The median over all rounds counts; the medians of the single processes are shown too.

On the CPU a process keeps the memory that it frees, as ``fxtransport train`` does. Every other
process does not, which shows the effect: on these steps, and on plain ones of a ResNet-18 on
224×224, batch 24.

    python benchmarks/training_cost.py [--device cuda] [--processes 3] [--rounds 6]
"""

import copy
import multiprocessing
import os
import random
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import click
import timm
import torch
from common import spread, write
from rich.console import Console
from rich.table import Table
from torch import nn

from fxtransport import transportify
from fxtransport.nets import resnet110
from fxtransport.objectives import Objective, lap, plain, trgl, vangl
from fxtransport.training import EndToEnd, Parallel, Schedule, Trainer, keep_freed_memory

BATCH, CLASSES, MODULES = 64, 10, 4
SIZES = {96: 1, 32: 4}
"""Height and width of images, and by which factor there are more rounds."""


class Ratio(NamedTuple):
    """The time of one method over that of another."""

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
    """The times of one step, in seconds."""

    processor: float
    wall: float


class Process(NamedTuple):
    """What one process measured."""

    size: int
    """Height and width of the images."""
    keeps: bool
    """Whether it keeps the memory that it frees."""
    times: dict[str, list[Times]]
    """The times of all methods, round by round."""
    large_step: float
    """Median seconds of a plain step of a ResNet-18; 0 on a GPU."""
    large_memory: float
    """The peak memory of the process, in MiB."""


def trainer(model: nn.Module, objective: Objective, modules: int, size: int) -> Trainer:
    """A trainer of a copy of the model: of the whole, or in parallel."""
    schedule: Schedule = EndToEnd(1) if modules == 1 else Parallel(1)
    example = torch.empty(2, 3, size, size, device="meta")
    program = transportify(copy.deepcopy(model), example, modules=modules, verify=False)
    return Trainer(program, objective, schedule)


def time_step(trainer: Trainer, images: torch.Tensor, targets: torch.Tensor) -> Times:
    """The time of a step, until the device is done."""
    processor, wall = time.process_time(), time.perf_counter()
    trainer.step(images, targets)
    if images.is_cuda:
        torch.cuda.synchronize()
    return Times(time.process_time() - processor, time.perf_counter() - wall)


def measure(device: str, size: int, rounds: int, threads: int, keeps: bool) -> Process:
    """Everything that one process measures."""
    if keeps and not keep_freed_memory():
        raise click.ClickException("freed memory cannot be kept: see keep_freed_memory")
    torch.set_num_threads(threads)
    times = time_methods(device, size, rounds)
    step = statistics.median(large_steps()) if device == "cpu" else 0.0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return Process(size, keeps, times, step, memory)


def time_methods(device: str, size: int, rounds: int) -> dict[str, list[Times]]:
    """The times of all methods, round by round."""
    torch.manual_seed(0)
    order = random.Random(0)
    model = resnet110(num_classes=CLASSES).to(device)
    trainers = {
        "plain": trainer(model, plain(), 1, size),
        "lap": trainer(model, lap(1.0, 0.1, 50), 1, size),
        "vangl": trainer(model, vangl(), MODULES, size),
        "trgl": trainer(model, trgl(0.5), MODULES, size),
    }
    images = torch.randn(BATCH, 3, size, size, device=device)
    targets = torch.randint(CLASSES, (BATCH,), device=device)
    times: dict[str, list[Times]] = {name: [] for name in trainers}
    for count in range(-2, rounds):
        for name in order.sample(list(trainers), len(trainers)):
            found = time_step(trainers[name], images, targets)
            # the first rounds allocate memory
            if count >= 0:
                times[name].append(found)
    return times


def large_steps() -> list[float]:
    """Seconds of plain steps of a ResNet-18 on 3×224×224 images, without the first."""
    large = trainer(timm.create_model("resnet18"), plain(), 1, size=224)
    images, targets = torch.randn(24, 3, 224, 224), torch.randint(1000, (24,))
    return [time_step(large, images, targets).wall for _ in range(6)][1:]


def ratios_of(times: dict[str, list[Times]], ratio: Ratio, clock: str) -> list[float]:
    """One ratio, round by round, by one of the clocks."""
    pairs = zip(times[ratio.numerator], times[ratio.denominator], strict=True)
    return [getattr(a, clock) / getattr(b, clock) for a, b in pairs]


def quartiles(values: list[float]) -> str:
    """Median and middle half: ``1.012 (1.003-1.024)``."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


def pool(runs: list[Process], ratio: Ratio, clock: str) -> list[float]:
    """One ratio in all rounds of all processes."""
    return [value for run in runs for value in ratios_of(run.times, ratio, clock)]


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--processes", default=3, show_default=True, help="On the CPU, twice as many.")
@click.option("--rounds", default=6, show_default=True, help="In each; more on small images.")
@click.option("--threads", default=1, show_default=True, help="Processor threads.")
def main(device: str, processes: int, rounds: int, threads: int) -> None:
    """Measure, print and write what training by transport costs."""
    console = Console(width=140)
    results = {}
    for size, times in SIZES.items():
        runs = run_processes(device, size, processes, rounds * times, threads)
        results[f"{size}×{size}"] = report(console, runs, device)
    load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    console.print(f"load of the machine: {load}")
    path = write("training_cost", device, {"load": load, "results": results})
    click.echo(f"written to {path.relative_to(path.parent.parent.parent)}")


def run_processes(
    device: str, size: int, processes: int, rounds: int, threads: int
) -> list[Process]:
    """What each process measured, one after the other."""
    runs: list[Process] = []
    kinds = (True, False) if device == "cpu" else (False,)
    for keeps in kinds * processes:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            runs.append(process.submit(measure, device, size, rounds, threads, keeps).result())
    return runs


def report(console: Console, runs: list[Process], device: str) -> dict[str, Any]:
    """Print what was measured on images of one size, and return it as it is written."""
    counting = [run for run in runs if run.keeps == (device == "cpu")]
    other = [run for run in runs if run not in counting]
    clock = "processor" if device == "cpu" else "wall"
    size, rounds = runs[0].size, len(runs[0].times["plain"])
    title = f"{size}×{size}, batch {BATCH}, {len(counting)} processes of {rounds} rounds"
    console.print(table_of(counting, other, clock, f"ResNet-110, {title}, by {clock} time"))
    for name in runs[0].times:
        steps = [step.wall for run in counting for step in run.times[name]]
        console.print(f"{name}: {spread(steps)} s a step")
    if other:
        for name, values in worth_of_keeping(counting, other).items():
            console.print(f"memory kept over given back, {name}: {spread(values)}")
    medians = {ratio.name: statistics.median(pool(counting, ratio, clock)) for ratio in RATIOS}
    return {"title": title, "medians": medians, "processes": [run._asdict() for run in runs]}


def table_of(counting: list[Process], other: list[Process], clock: str, title: str) -> Table:
    """The ratios, the published ones and targets, and those without keeping memory."""
    columns = ("median (middle half)", "of processes", "published", "target", "met")
    table = Table("", *columns, *(["memory given back"] if other else []), title=title)
    for ratio in RATIOS:
        found = pool(counting, ratio, clock)
        medians = [statistics.median(ratios_of(run.times, ratio, clock)) for run in counting]
        span = f"{min(medians):.3f}-{max(medians):.3f}"
        met = "✓" if statistics.median(found) <= ratio.target else "✗"
        judged = (ratio.published, f"≤ {ratio.target}", met)
        beside = [quartiles(pool(other, ratio, clock))] if other else []
        table.add_row(ratio.name, quartiles(found), span, *judged, *beside)
    return table


def worth_of_keeping(kept: list[Process], given_back: list[Process]) -> dict[str, list[float]]:
    """Ratios of neighboring processes, one of which keeps the memory that it frees."""

    def plain_step(run: Process) -> float:
        return statistics.median(step.processor for step in run.times["plain"])

    pairs = list(zip(kept, given_back, strict=True))
    return {
        "plain steps": [plain_step(a) / plain_step(b) for a, b in pairs],
        "plain steps of ResNet-18": [a.large_step / b.large_step for a, b in pairs],
        "memory of the process": [a.large_memory / b.large_memory for a, b in pairs],
    }


if __name__ == "__main__":
    main()
