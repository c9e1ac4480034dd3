"""The time of a step of parallel training over that of a step end to end: K, heads, methods.

    python benchmarks/step_time.py [--device cuda] [--compile] [--processes 3] [--rounds 6]

ResNet-110 on 3×32×32 images and timm's resnet18 on 3×64×64, batch 64, SGD with momentum, cut
equally deep, with DGL's heads and with those that the library plans by default, without a
transport cost (VanGL) and with it (TRGL), also where it has a gradient by the parameters of the
last batch norm of each block alone. The library's trainer makes the steps. In every round
each of them makes one step on the same batch, in a random order, and ratios are taken round by
round, so that a busy machine slows both sides. On the CPU they are of processor time, in processes
of one thread, which keep the memory that they free, as ``fxtransport train`` does. The rounds are
made in several processes, one after the other, since the placement of a process's memory changes
all its ratios by a percent or two. The median over all rounds counts, with the middle half of them,
and beside it the medians of the single processes.

``--compile`` measures the same steps with every part compiled as well, over end to end compiled;
both are then one entry in the file of results, and other entries stay as they were. Compiling
ResNet-110 takes minutes for each way of training, so ``--head auto --method TRGL`` leaves most out.
"""

import copy
import multiprocessing
import os
import random
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any, NamedTuple

import click
import timm
import torch
from common import merge
from rich.console import Console
from rich.table import Table
from torch import nn
from training_cost import Times, quartiles, time_step

from fxtransport import transportify
from fxtransport.nets import resnet110
from fxtransport.objectives import Objective, TransportCost, plain, trgl, vangl
from fxtransport.training import (
    EndToEnd,
    Parallel,
    Schedule,
    Trainer,
    TrainerSettings,
    keep_freed_memory,
)

BATCH, CLASSES = 64, 10
ALONE = "TRGL, norms alone"
METHODS = {
    "VanGL": vangl,
    "TRGL": lambda: trgl(0.5),
    ALONE: lambda: trgl(0.5, cost=TransportCost(norms_alone=True)),
}
HEADS = ("dgl", "auto")
GOALS = {2: 1.02, 4: 1.03, 8: 1.05, 16: 1.06}
"""What TRGL should take at most, by K, with the heads of the library."""
PUBLISHED = {2: 1.06, 16: 1.16}
"""TRGL on ResNet-110 (THESIS 4.5.3)."""


class Net(NamedTuple):
    """A network to cut."""

    name: str
    size: int
    """Height and width of the images."""
    modules: tuple[int, ...]

    def build(self) -> nn.Module:
        """The network with new weights."""
        if self.name == "resnet110":
            return resnet110(num_classes=CLASSES)
        return timm.create_model(self.name, num_classes=CLASSES)


NETS = {
    net.name: net for net in (Net("resnet110", 32, (2, 4, 8, 16)), Net("resnet18", 64, (2, 4, 8)))
}


class Step(NamedTuple):
    """A way to train, of which the time of a step is measured."""

    modules: int
    """K; 1: end to end, which has neither heads nor a cost."""
    head: str
    method: str
    compiled: bool


def steps_of(
    net: Net,
    modules: Sequence[int],
    compiled: bool,
    heads: Sequence[str] = HEADS,
    methods: Sequence[str] = tuple(METHODS),
) -> list[Step]:
    """Everything to measure of a network."""
    kinds = (False, True) if compiled else (False,)
    parallel = product([k for k in net.modules if k in modules], heads, methods)
    # what DGL's heads cost does not depend on it
    ways = [(1, "", ""), *(way for way in parallel if way[1:] != ("dgl", ALONE))]
    return [Step(*way, kind) for kind in kinds for way in ways]


def trainer_of(model: nn.Module, net: Net, step: Step) -> Trainer:
    """A trainer of a copy of the model."""
    example = torch.empty(2, 3, net.size, net.size, device="meta")
    options = {"head": step.head} if step.head else {}
    program = transportify(
        copy.deepcopy(model),
        example,
        modules=step.modules,
        batch_size=BATCH,
        verify=False,
        **options,
    )
    objective: Objective = METHODS[step.method]() if step.method else plain()
    schedule: Schedule = Parallel(1) if step.modules > 1 else EndToEnd(1)
    settings = TrainerSettings(compile="inductor" if step.compiled else None)
    return Trainer(program, objective, schedule, settings=settings)


Measured = dict[Step, list[Times]]
"""The times of all steps, round by round."""


def time_processes(
    net: Net, steps: list[Step], device: str, rounds: int, processes: int
) -> list[Measured]:
    """What each process measured, one after the other; this process, if it is to be one."""
    if processes == 1:
        return [time_rounds(net, steps, device, rounds)]
    found: list[Measured] = []
    for _ in range(processes):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            found.append(process.submit(time_rounds, net, steps, device, rounds).result())
    return found


def time_rounds(net: Net, steps: list[Step], device: str, rounds: int) -> Measured:
    """What one process measures."""
    if device == "cpu" and not keep_freed_memory():
        raise click.ClickException("freed memory cannot be kept: see keep_freed_memory")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    order = random.Random(0)
    model = net.build().to(device)
    trainers = {step: trainer_of(model, net, step) for step in steps}
    images = torch.randn(BATCH, 3, net.size, net.size, device=device)
    targets = torch.randint(CLASSES, (BATCH,), device=device)
    times: Measured = {step: [] for step in steps}
    for count in range(-2, rounds):
        for step in order.sample(steps, len(steps)):
            found = time_step(trainers[step], images, targets)
            # the first rounds allocate memory, and compile
            if count >= 0:
                times[step].append(found)
    return times


def ratios_of(times: Measured, step: Step, clock: str) -> list[float]:
    """The time of a step over that end to end, round by round."""
    whole = times[Step(1, "", "", step.compiled)]
    pairs = zip(times[step], whole, strict=True)
    return [getattr(a, clock) / getattr(b, clock) for a, b in pairs]


def pool(runs: list[Measured], step: Step, clock: str) -> list[float]:
    """The ratios of a step in all rounds of all processes."""
    return [ratio for times in runs for ratio in ratios_of(times, step, clock)]


def medians(runs: list[Measured], step: Step, clock: str) -> list[float]:
    """The median ratio of a step in each process."""
    return [statistics.median(ratios_of(times, step, clock)) for times in runs]


def table_of(net: Net, runs: list[Measured], clock: str) -> Table:
    """The ratios of a network, eager and compiled, beside the published ones and the goals."""
    steps, rounds = list(runs[0]), len(next(iter(runs[0].values())))
    title = (
        f"{net.name}, {net.size}×{net.size}, batch {BATCH}: a step in parallel over one end to "
        f"end, {clock} time, {len(runs)} × {rounds} rounds, median (middle half)"
    )
    columns = ("K", "head", "method", "eager", "of processes", "compiled", "published", "goal")
    table = Table(*columns, "met", title=title)
    for step in steps:
        if step.modules == 1 or step.compiled:
            continue
        found, each = pool(runs, step, clock), medians(runs, step, clock)
        both = step._replace(compiled=True)
        compiled = quartiles(pool(runs, both, clock)) if both in runs[0] else ""
        judged = step.method.startswith("TRGL") and step.head == "auto"
        goal = GOALS[step.modules]
        published = PUBLISHED.get(step.modules) if net.name == "resnet110" else None
        table.add_row(
            str(step.modules),
            "DGL" if step.head == "dgl" else "small",
            step.method,
            quartiles(found),
            f"{min(each):.3f}-{max(each):.3f}",
            compiled,
            str(published) if published and judged else "",
            f"≤ {goal}" if judged else "",
            ("✓" if statistics.median(found) <= goal else "✗") if judged else "",
        )
    return table


def describe(runs: list[Measured], clock: str) -> list[dict[str, Any]]:
    """What was measured, to be written."""
    rows = []
    for step in runs[0]:
        seconds = [[round(getattr(each, clock), 4) for each in times[step]] for times in runs]
        row: dict[str, Any] = {**step._asdict(), "seconds": seconds}
        if step.modules > 1:
            row["ratio"] = round(statistics.median(pool(runs, step, clock)), 4)
        rows.append(row)
    return rows


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--compile", "compiled", is_flag=True, help="Measure compiled parts as well.")
@click.option("--processes", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--rounds", default=6, show_default=True, type=click.IntRange(min=2))
@click.option("--net", "nets", multiple=True, type=click.Choice([*NETS]), default=[*NETS])
@click.option(
    "--modules", multiple=True, type=click.IntRange(min=2), default=[*GOALS], show_default=True
)
@click.option("--head", "heads", multiple=True, type=click.Choice(HEADS), default=HEADS)
@click.option(
    "--method", "methods", multiple=True, type=click.Choice([*METHODS]), default=[*METHODS]
)
@click.option("--quick", is_flag=True, help="One process of two rounds, nothing is written.")
def main(
    device: str,
    compiled: bool,
    processes: int,
    rounds: int,
    nets: tuple[str, ...],
    modules: tuple[int, ...],
    heads: tuple[str, ...],
    methods: tuple[str, ...],
    quick: bool,
) -> None:
    """Measure, print and write what parallel training costs beside end to end."""
    processes, rounds = (1, 2) if quick else (processes, rounds)
    clock = "processor" if device == "cpu" else "wall"
    console = Console(width=160)
    for name in nets:
        net = NETS[name]
        steps = steps_of(net, modules, compiled, heads, methods)
        runs = time_processes(net, steps, device, rounds, processes)
        console.print(table_of(net, runs, clock))
        if quick:
            continue
        load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        key = f"{name}, {net.size}×{net.size}, {'compiled and eager' if compiled else 'eager'}"
        merge("step_time", device, {key: {"load": load, "rows": describe(runs, clock)}})


if __name__ == "__main__":
    main()
