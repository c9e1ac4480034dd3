"""LAP against vanilla training on few digits: table 1 of THESIS 3.5.1, on scikit-learn's digits.

    python benchmarks/small_data.py [--device cuda] [--quick] [--seeds 20]

The network is the single-representation ResNet-9 with orthogonal initialization of gain 0.01, and
it trains as published: SGD with momentum 0.9, weight decay 1e-4, learning rate 0.01, batches of
128, 30 epochs, of which the highest test accuracy counts. It has 16 channels instead of 32, for
images of 8×8 instead of 28×28. Each seed has its own split and initialization, which all methods
share.

The text and the authors' program minimize L + C/λ. λL + C, of which names in the program remain,
has the same gradient up to a factor of λ, published from 5 up: larger steps for SGD. Both are here,
and so is vanilla training with another learning rate. Multipliers and that learning rate are
chosen by the validation accuracy of other seeds, at 100 images.
"""

import copy
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import click
import torch
from common import merge
from digits import Learners, Recipe, digits, exits
from intervals import Mean, mean_of, paired
from rich.console import Console
from rich.table import Table
from workers import run_in_processes

from fxtransport import transportify
from fxtransport.nets import initialize, resnet_m
from fxtransport.objectives import Objective, fixed, lap, plain, trgl_multipliers
from fxtransport.program import Program

SIZES = (100, 200, 500)
CHANNELS, GAIN, BATCH, EPOCHS = 16, 0.01, 128, 30
LR = 0.01
TUNED_AT, TUNING_SEEDS = 100, range(1000, 1004)

PUBLISHED = {
    100: (Mean(56.4, 1.5), Mean(70.0, 1.0)),
    200: (Mean(74.9, 1.0), Mean(82.0, 0.5)),
    500: (Mean(90.8, 0.4), Mean(90.9, 0.2)),
}
"""On MNIST, by training images: vanilla, and LAP with λ0 = 5, τ = 1, s = 5."""


def lagrangian(lambda0: float, lambda_rate: float, update_every: int) -> Objective:
    """LAP as λL + C."""
    return trgl_multipliers(lambda0, lambda_rate, update_every, order="text")


class Choice(NamedTuple):
    """Options of a method."""

    options: tuple[float, ...] = ()
    lr: float = LR


class Method(NamedTuple):
    """An objective, and the options to choose from."""

    objective: Callable[..., Objective]
    choices: tuple[Choice, ...]


VANILLA = "vanilla"
PUBLISHED_LAP = (5, 1, 5)
METHODS = {
    VANILLA: Method(plain, (Choice(),)),
    "vanilla, lr tuned": Method(plain, tuple(Choice(lr=lr) for lr in (0.01, 0.03, 0.1))),
    "fixed λ": Method(fixed, (Choice((0.1,)), Choice((1.0,)), Choice((10.0,)))),
    "LAP, L + C/λ": Method(
        lap, (Choice(PUBLISHED_LAP), Choice((1, 0.1, 5)), Choice((0.1, 0.1, 5)))
    ),
    "LAP, λL + C": Method(
        lagrangian, (Choice(PUBLISHED_LAP), Choice((1, 0.1, 5)), Choice((0.1, 0.1, 5)))
    ),
}


class Job(NamedTuple):
    """One network to train, and the split to measure its accuracy on after each epoch."""

    method: str
    choice: Choice
    images: int
    seed: int
    split: str
    epochs: int
    device: str


@cache
def compile_network(device: str) -> Program:
    """The network."""
    model = resnet_m(channels=CHANNELS, image_size=8, init=None)
    return transportify(model.to(device))


def train(job: Job) -> list[float]:
    """Accuracies in % after each epoch."""
    network = copy.deepcopy(compile_network(job.device))
    torch.manual_seed(job.seed)
    program = initialize(network, "orthogonal", GAIN)
    objective = METHODS[job.method].objective(*job.choice.options)
    given = digits(job.images, job.seed, job.device)
    learner = Learners((program.whole,), objective, Recipe(job.choice.lr, BATCH), job.seed)
    looked_at = {"validation": given.validation, "test": given.test}[job.split]
    found = []
    for _ in range(job.epochs):
        learner.epoch(given.train)
        found += exits((program.whole,), looked_at)
    return found


def tune(seeds: range, epochs: int, processes: int, device: str) -> dict[str, dict[Choice, float]]:
    """The validation accuracy of every choice, by method."""
    jobs = [
        Job(name, choice, TUNED_AT, seed, "validation", epochs, device)
        for name, method in METHODS.items()
        for choice in method.choices
        if len(method.choices) > 1
        for seed in seeds
    ]
    found: dict[str, dict[Choice, list[float]]] = defaultdict(lambda: defaultdict(list))
    for job, accuracies in run_in_processes(train, jobs, processes):
        found[job.method][job.choice].append(max(accuracies))
    return {
        name: {choice: statistics.fmean(found[name][choice]) for choice in method.choices}
        for name, method in METHODS.items()
        if name in found
    }


def choose_best(tuned: dict[str, dict[Choice, float]]) -> dict[str, Choice]:
    """The best choice of each method."""
    return {
        name: max(tuned[name], key=tuned[name].__getitem__) if name in tuned else method.choices[0]
        for name, method in METHODS.items()
    }


def measure(
    images: int,
    choices: dict[str, Choice],
    seeds: range,
    epochs: int,
    processes: int,
    device: str,
) -> dict[str, list[float]]:
    """The highest test accuracies of all seeds, by method."""
    jobs = [
        Job(name, choice, images, seed, "test", epochs, device)
        for seed in seeds
        for name, choice in choices.items()
    ]
    best = {job: max(found) for job, found in run_in_processes(train, jobs, processes)}
    return {name: [best[job] for job in jobs if job.method == name] for name in METHODS}


def verdict(difference: Mean) -> str:
    """The verdict on an interval."""
    return {1: "better", 0: "no difference", -1: "worse"}[difference.sign]


def table_of(results: dict[int, dict[str, list[float]]], choices: dict[str, Choice]) -> Table:
    """Accuracies and paired differences, beside those published on MNIST."""
    columns = ("images", "method", "chosen", "test, %", "against vanilla", "", "MNIST, published")
    table = Table(*columns, title="highest test accuracy")
    for images, by_method in results.items():
        vanilla, least_action = PUBLISHED[images]
        published = {VANILLA: vanilla, "LAP, L + C/λ": least_action, "LAP, λL + C": least_action}
        for name, values in by_method.items():
            options, lr = choices[name]
            difference = paired(values, by_method[VANILLA])
            table.add_row(
                str(images) if name == VANILLA else "",
                name,
                f"lr {lr}" + (f", {options}" if options else ""),
                str(mean_of(values)),
                "" if name == VANILLA else f"{difference.mean:+.1f} ± {difference.half:.1f}",
                "" if name == VANILLA else verdict(difference),
                str(published.get(name, "")),
            )
        table.add_section()
    return table


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--quick", is_flag=True, help="Two seeds and epochs, to see that it runs.")
@click.option("--seeds", default=20, show_default=True)
@click.option("--processes", default=2, show_default=True)
@click.option(
    "--images",
    "sizes",
    multiple=True,
    type=click.Choice(SIZES),
    default=SIZES,
    help="Train only on this many, and keep the results of the others.",
)
def main(device: str, quick: bool, seeds: int, processes: int, sizes: tuple[int, ...]) -> None:
    """Tune, train, print and write the table of few digits."""
    epochs = 2 if quick else EPOCHS
    tuning = TUNING_SEEDS[:1] if quick else TUNING_SEEDS
    tuned = tune(tuning, epochs, processes, device)
    choices = choose_best(tuned)
    results: dict[int, dict[str, list[float]]] = {}
    for images in sizes:
        start = time.perf_counter()
        some = range(2 if quick else seeds)
        results[images] = measure(images, choices, some, epochs, processes, device)
        taken = round(time.perf_counter() - start)
        if not quick:
            merge("small_data", device, {str(images): describe(results[images], choices, taken)})
    if not quick:
        merge("small_data", device, {"tuning": {name: by_name(c) for name, c in tuned.items()}})
    Console(width=120).print(table_of(results, choices))


def describe(
    values: dict[str, list[float]], choices: dict[str, Choice], seconds: int
) -> dict[str, Any]:
    """The results for a number of images, to be written."""
    return {
        "epochs": EPOCHS,
        "seconds": seconds,
        "chosen": {name: choice._asdict() for name, choice in choices.items()},
        "best_test_accuracies": {n: [round(v, 2) for v in row] for n, row in values.items()},
    }


def by_name(accuracies: dict[Choice, float]) -> list[dict[str, Any]]:
    """Choices with their validation accuracies, to be written."""
    return [c._asdict() | {"validation": round(v, 2)} for c, v in accuracies.items()]


if __name__ == "__main__":
    main()
