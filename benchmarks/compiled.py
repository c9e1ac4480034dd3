"""Step times, eager and compiled: end to end, LAP and TRGL, made in turn.

Networks of timm, by the library's trainer, which compiles the forward and the loss of each part as
one graph. In every round each method makes one step on the same batch, eager and compiled, in a
random order, so that a busy machine slows all of them, and ratios are taken round by round. On the
CPU they are of processor time, which other processes do not change. What compiling takes is
reported apart from the steps; it is less where Inductor has the code in its cache.

    python benchmarks/compiled.py [--device cuda] [--rounds 20] [--models resnet18]
"""

import copy
import os
import random
import statistics
import time
from typing import Any, NamedTuple

import click
import timm
import torch
from common import spread, write
from rich.console import Console
from rich.table import Table
from torch import nn

from fxtransport import transportify
from fxtransport.objectives import Objective, lap, plain, trgl
from fxtransport.training import EndToEnd, Parallel, Trainer, TrainerSettings, keep_freed_memory

MODULES, CLASSES = 4, 10
MODELS: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "vit_tiny_patch16_224": {"img_size": 64},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "window_size": 4},
}
SIZE = 64
"""Height and width of the images."""
METHODS: dict[str, tuple[Objective, int]] = {
    "plain": (plain(), 1),
    "lap": (lap(1.0, 0.1, 50), 1),
    "trgl": (trgl(0.5), MODULES),
}
TARGET = 1.02
"""Of LAP over plain, compiled."""


class Way(NamedTuple):
    """A method, eager or compiled."""

    method: str
    compiled: bool


class Compiling(NamedTuple):
    """What compiling a method took."""

    graphs: int
    seconds: float


def trainer(model: nn.Module, way: Way, settings: dict[str, Any]) -> Trainer:
    """A trainer of a copy of the model."""
    objective, modules = METHODS[way.method]
    example = torch.empty(2, 3, SIZE, SIZE, device="meta")
    program = transportify(copy.deepcopy(model), example, modules=modules, verify=False)
    schedule = EndToEnd(1) if modules == 1 else Parallel(1)
    chosen = TrainerSettings(
        **{**settings, "compile": settings["compile"] if way.compiled else None}
    )
    return Trainer(program, copy.deepcopy(objective), schedule, settings=chosen)


def step_seconds(made: Trainer, images: torch.Tensor, targets: torch.Tensor) -> float:
    """The time of a step, until the device is done: of the processor on the CPU."""
    clock = time.perf_counter if images.is_cuda else time.process_time
    start = clock()
    made.step(images, targets)
    if images.is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def measure(
    name: str, device: str, batch: int, rounds: int, settings: dict[str, Any]
) -> tuple[dict[Way, list[float]], dict[str, Compiling]]:
    """The seconds of all steps of one network, and what compiling took."""
    torch.manual_seed(0)
    order = random.Random(0)
    model = timm.create_model(name, num_classes=CLASSES, **MODELS[name]).to(device)
    ways = [Way(method, compiled) for method in METHODS for compiled in (False, True)]
    made = {way: trainer(model, way, settings) for way in ways}
    images = torch.randn(batch, 3, SIZE, SIZE, device=device)
    targets = torch.randint(CLASSES, (batch,), device=device)
    taken: dict[str, Compiling] = {}
    for way in ways:
        start = time.perf_counter()
        made[way].step(images, targets)
        if way.compiled:
            graphs = made[way].graphs
            taken[way.method] = Compiling(graphs, time.perf_counter() - start)
    times: dict[Way, list[float]] = {way: [] for way in ways}
    for count in range(-2, rounds):
        for way in order.sample(ways, len(ways)):
            found = step_seconds(made[way], images, targets)
            # the first rounds allocate memory
            if count >= 0:
                times[way].append(found)
    return times, taken


def ratio(times: dict[Way, list[float]], one: Way, other: Way) -> list[float]:
    """One way over another, round by round."""
    return [a / b for a, b in zip(times[one], times[other], strict=True)]


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--models", multiple=True, type=click.Choice(list(MODELS)), default=list(MODELS))
@click.option("--batch", default=16, show_default=True)
@click.option("--rounds", default=20, show_default=True)
@click.option("--threads", default=1, show_default=True, help="Processor threads.")
@click.option("--backend", default="inductor", show_default=True, help="Of torch.compile.")
def main(
    device: str, models: tuple[str, ...], batch: int, rounds: int, threads: int, backend: str
) -> None:
    """Measure, print and write step times, eager and compiled."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    settings: dict[str, Any] = {"compile": backend, "device": device}
    if device == "cuda":
        settings |= {"amp": "bf16", "channels_last": True}
    columns = ("eager s", "compiled s", "over plain, eager", "over plain, compiled", "compiling")
    table = Table("", *columns, title=f"{SIZE}×{SIZE}, batch {batch}, {rounds} rounds, {device}")
    results: dict[str, Any] = {}
    for name in models:
        times, taken = measure(name, device, batch, rounds, settings)
        results[name] = {}
        for method in METHODS:
            ways = [Way(method, compiled) for compiled in (False, True)]
            ratios = [ratio(times, way, Way("plain", way.compiled)) for way in ways]
            graphs, seconds = taken[method]
            table.add_row(
                f"{name} {method}",
                *(spread(times[way]) for way in ways),
                *map(spread, ratios),
                f"{graphs} graphs, {seconds:.0f} s",
            )
            results[name][method] = {
                "eager_seconds": times[ways[0]],
                "compiled_seconds": times[ways[1]],
                "over_plain_eager": statistics.median(ratios[0]),
                "over_plain_compiled": statistics.median(ratios[1]),
                "graphs": graphs,
                "compiling_seconds": seconds,
            }
    console = Console(width=160)
    console.print(table)
    met = {n: r["lap"]["over_plain_compiled"] <= TARGET for n, r in results.items()}
    console.print(f"LAP over plain, compiled, at most {TARGET}: {met}")
    load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    console.print(f"load of the machine: {load}")
    path = write("compiled", device, {"load": load, "batch": batch, "results": results})
    click.echo(f"written to {path.relative_to(path.parent.parent.parent)}")


if __name__ == "__main__":
    main()
