"""What a detector costs: extraction over a plain forward, pytorch-ood's Mahalanobis, scoring.

Each pair is run in turn, in a random order in every round, on the same images, in eval mode and
without gradients; ratios are taken round by round, and their median counts. On the CPU they are
of processor time, which other processes do not change. A pair is measured in several processes,
one after the other, since the placement of a process's memory changes a ratio by a percent.

The second table is of one run on the model of the published figures: ours extracts and asks its
forest; pytorch-ood extracts in its own way, from four stages, or from the last one with the
input's gradient. The third is of the forest's scoring alone, of rows in one batch and one by one.

    python benchmarks/detector_cost.py [--device cuda] [--processes 3] [--rounds 10] [--quick]
"""

import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import click
import numpy as np
import timm
import torch
from common import write
from pytorch_ood.detector import MahalanobisODIN, MultiMahalanobis
from rich.console import Console
from rich.table import Table
from torch import nn

from fxtransport import transportify
from fxtransport.detection import TransportFeatures
from fxtransport.detection.forest import TransportForest

MODELS = {
    "resnet18": "resnet18",
    "vit_tiny": "vit_tiny_patch16_224",
    "swin_tiny": "swin_tiny_patch4_window7_224",
}
BATCHES = {224: 8, 64: 32}
"""Height and width of images, and how many are in a batch."""
TARGETS = {224: 1.03, 64: 1.05}
PUBLISHED = "resnext50_32x4d"
PUBLISHED_SECONDS = "66 against 110 (and 35 with noise), ResNeXt50 on CIFAR-100, one V100"
CLASSES = 100
SCORING = {"rows a second in one batch": 100_000, "rows a second one by one": 2_500}


class Case(NamedTuple):
    """One pair: a model and its extractor."""

    model: str
    size: int
    compiled: bool

    @property
    def title(self) -> str:
        """``resnet18 64×64, eager``."""
        return f"{self.model} {self.size}×{self.size}, {'compiled' if self.compiled else 'eager'}"


class Times(NamedTuple):
    """Seconds of one call."""

    processor: float
    wall: float


def time_call(call: Callable[[], object], device: str) -> Times:
    """The time of a call, until the device is done."""
    processor, wall = time.process_time(), time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return Times(time.process_time() - processor, time.perf_counter() - wall)


def time_in_turn(
    calls: dict[str, Callable[[], object]], rounds: int, device: str
) -> dict[str, list[Times]]:
    """The times of several calls, round by round, without the first two rounds."""
    order = random.Random(0)
    times: dict[str, list[Times]] = {name: [] for name in calls}
    for count in range(-2, rounds):
        for name in order.sample(list(calls), len(calls)):
            found = time_call(calls[name], device)
            # the first rounds allocate memory, and compile
            if count >= 0:
                times[name].append(found)
    return times


def build(name: str, size: int, device: str) -> tuple[nn.Module, torch.Tensor]:
    """A model in eval mode, and a batch of images."""
    torch.manual_seed(0)
    options = {} if name.startswith("res") else {"img_size": size}
    model = timm.create_model(name, num_classes=CLASSES, **options).eval().to(device)
    return model, torch.randn(BATCHES[size], 3, size, size, device=device)


@torch.no_grad()
def measure(case: Case, device: str, rounds: int, threads: int) -> dict[str, list[Times]]:
    """The times of a plain forward and of an extraction, in this process."""
    torch.set_num_threads(threads)
    model, images = build(MODELS[case.model], case.size, device)
    extract = TransportFeatures(transportify(model, images, verify=False).eval())
    if case.compiled:
        model = torch.compile(model, fullgraph=True)
        extract = torch.compile(extract, fullgraph=True)
    calls = {"plain": lambda: model(images), "extraction": lambda: extract(images)}
    return time_in_turn(calls, rounds, device)


def stages_of(model: nn.Module) -> list[nn.Module]:
    """The stages of a ResNet of timm, the stem with the first."""
    first = nn.Sequential(model.conv1, model.bn1, model.act1, model.maxpool, model.layer1)
    return [first, model.layer2, model.layer3, model.layer4]


def compare(device: str, rounds: int, threads: int) -> dict[str, list[Times]]:
    """The times of judging a batch by ours, and by pytorch-ood's Mahalanobis."""
    torch.set_num_threads(threads)
    model, images = build(PUBLISHED, 64, device)
    extract = TransportFeatures(transportify(model, images, verify=False).eval())
    forest = made_forest(2 * len(extract.blocks))
    classes = torch.arange(4 * CLASSES, device=device) % CLASSES
    many = torch.randn(len(classes), 3, 64, 64, device=device)
    stages = MultiMahalanobis(stages_of(model)).to(device)
    noisy = MahalanobisODIN(lambda x: model.forward_features(x).mean((2, 3)))
    batches = list(zip(many.split(50), classes.split(50), strict=True))
    stages.fit(batches)
    noisy.fit_features(torch.cat([noisy_features(model, x) for x, _ in batches]), classes)

    def ours() -> object:
        logits, features = extract(images)
        predicted = logits.argmax(1).cpu().numpy()
        return forest.score(features.cpu().numpy(), predicted)

    calls = {
        "plain forward": torch.no_grad()(lambda: model(images)),
        "transport features and forest": ours,
        "pytorch-ood, four stages": torch.no_grad()(lambda: stages.predict(images)),
        "pytorch-ood, last stage, noise": lambda: noisy.predict(images),
    }
    return time_in_turn(calls, rounds, device)


@torch.no_grad()
def noisy_features(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What leaves the last stage, averaged over space."""
    found: torch.Tensor = model.forward_features(images).mean((2, 3))
    return found


def made_forest(columns: int) -> TransportForest:
    """A forest on made-up features, of which attacked ones are a little larger."""
    generator = np.random.default_rng(0)
    clean = generator.normal(size=(1000, columns)).astype(np.float32)
    attacked = generator.normal(0.3, 1.1, size=(1000, columns)).astype(np.float32)
    classes = generator.integers(0, 10, 2000)
    return TransportForest().fit(clean, attacked, classes)


def scoring(rows: int, rounds: int) -> dict[str, list[float]]:
    """Rows a second that a forest scores, in one batch and one by one, by processor time."""
    forest = made_forest(32)
    data = np.random.default_rng(1).normal(size=(rows, 32)).astype(np.float32)
    classes = np.zeros(rows, dtype=np.int64)
    single = [(data[k : k + 1], classes[:1]) for k in range(min(500, rows))]

    def one_by_one() -> None:
        for row, predicted in single:
            forest.score(row, predicted)

    times = time_in_turn(
        {"batch": lambda: forest.score(data, classes), "one": one_by_one}, rounds, "cpu"
    )
    batch, one = SCORING
    return {
        batch: [rows / each.processor for each in times["batch"]],
        one: [len(single) / each.processor for each in times["one"]],
    }


def spawned(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def ratios(times: dict[str, list[Times]], above: str, below: str, device: str) -> list[float]:
    """The ratio of two calls, round by round."""
    clock = "processor" if device == "cpu" else "wall"
    pairs = zip(times[above], times[below], strict=True)
    return [getattr(a, clock) / getattr(b, clock) for a, b in pairs]


def quartiles(values: list[float]) -> str:
    """Median and middle half: ``1.012 (1.003-1.024)``."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.4g} ({low:.4g}-{high:.4g})"


def extraction_table(runs: dict[Case, list[list[float]]]) -> Table:
    """The ratios of extraction over a plain forward."""
    columns = ("median (middle half)", "of processes", "target", "met")
    table = Table("extraction over a plain forward", *columns)
    for case, processes in runs.items():
        pooled = [value for values in processes for value in values]
        medians = [statistics.median(values) for values in processes]
        met = "✓" if statistics.median(pooled) <= TARGETS[case.size] else "✗"
        span = f"{min(medians):.3f}-{max(medians):.3f}"
        table.add_row(case.title, quartiles(pooled), span, f"≤ {TARGETS[case.size]}", met)
    return table


def comparison_table(times: dict[str, list[Times]], device: str) -> Table:
    """The times of judging a batch, and their ratios to ours."""
    ours = "transport features and forest"
    title = f"{PUBLISHED}, 64×64, batch {BATCHES[64]}; published: {PUBLISHED_SECONDS}"
    table = Table("judging images", "seconds for 1000", "over ours", title=title)
    for name, each in times.items():
        clock = "processor" if device == "cpu" else "wall"
        seconds = [getattr(t, clock) * 1000 / BATCHES[64] for t in each]
        table.add_row(name, quartiles(seconds), quartiles(ratios(times, name, ours, device)))
    return table


def scoring_table(found: dict[str, list[float]]) -> Table:
    """How many rows the forest scores."""
    table = Table("forest, 32 features, ten classes", "median (middle half)", "target", "met")
    for name, values in found.items():
        met = "✓" if statistics.median(values) >= SCORING[name] else "✗"
        table.add_row(name, quartiles(values), f"≥ {SCORING[name]}", met)
    return table


def cases(quick: bool) -> list[Case]:
    """All pairs; or one of each size, eager."""
    if quick:
        return [Case("resnet18", size, False) for size in BATCHES]
    return [Case(m, s, compiled) for compiled in (False, True) for s in BATCHES for m in MODELS]


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--processes", default=3, show_default=True, help="For each pair.")
@click.option("--rounds", default=10, show_default=True, help="In each process.")
@click.option("--threads", default=1, show_default=True, help="Processor threads.")
@click.option("--quick", is_flag=True, help="One process of three rounds, and one model.")
def main(device: str, processes: int, rounds: int, threads: int, quick: bool) -> None:
    """Measure, print and write what a detector costs."""
    if quick:
        processes, rounds = 1, 3
    console = Console(width=130)
    runs: dict[Case, list[list[float]]] = {}
    for case in cases(quick):
        times = [spawned(measure, case, device, rounds, threads) for _ in range(processes)]
        runs[case] = [ratios(each, "extraction", "plain", device) for each in times]
        console.print(f"{case.title}: {quartiles([v for each in runs[case] for v in each])}")
    console.print(extraction_table(runs))
    compared = spawned(compare, device, rounds, threads)
    console.print(comparison_table(compared, device))
    rows = spawned(scoring, 2_000 if quick else 50_000, rounds)
    console.print(scoring_table(rows))
    load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    console.print(f"load of the machine: {load}")
    if quick:
        return
    results = {
        "extraction": {case.title: values for case, values in runs.items()},
        "judging": compared,
        "scoring": rows,
    }
    path = write("detector_cost", device, {"load": load, "results": results})
    click.echo(f"written to {path.relative_to(path.parent.parent.parent)}")


if __name__ == "__main__":
    main()
