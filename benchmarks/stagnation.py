"""Does greedy training stagnate with depth, and does TRGL repair it? On few digits.

    python benchmarks/stagnation.py [--device cuda] [--quick] [--seeds 10]

Published (THESIS tables 11 and 25): the last of many modules that are trained each for its own
loss (VanGL) is worse than the first ones where there are few images, and the transport cost
(TRGL) makes up for it. Here: 20 blocks of 16 channels, each a module, and the 10-1 network of 16
channels that double at the middle, on 8×8 digits. All modules have heads of their own; so has
the published 10-1, while the published 20 blocks share one head and have an encoder that was
trained before. Orthogonal initialisation of gain 0.05, also of the heads; SGD with momentum 0.9,
weight decay 1e-4.

A seed is a split and an initialisation of its own, which all methods share. The learning rate is
chosen by the validation accuracy of VanGL's last exit, and TRGL has the same; then τ by that of
TRGL's: on other seeds, at 150 images. Accuracies are those after the last epoch.
"""

import copy
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import click
import torch
from common import merge
from digits import Learners, Recipe, Split, digits, exits, passed_on
from intervals import Mean, mean_of, paired
from rich.console import Console
from rich.table import Table
from workers import done_in_processes

from fxtransport import transportify
from fxtransport.nets import initialize, km_resnet
from fxtransport.objectives import Objective, trgl, vangl
from fxtransport.program import Program

NETS = {"20 blocks": (20, False), "10-1": (10, True)}
"""Modules of one block each, and whether channels double at the middle."""
SCHEDULES = ("parallel", "sequential")
END_TO_END = "end to end"
CHANNELS, GAIN, BATCH = 16, 0.05, 64
EPOCHS = {150: 30, 300: 16, 600: 8}
"""Of each module, by training images: 80 or 90 steps."""
LRS, TAUS = (0.01, 0.03, 0.1), (0.05, 0.5, 5.0)
TUNED_AT, TUNING_SEEDS = 150, range(1000, 1002)

PUBLISHED = {
    ("20 blocks", "parallel"): {
        150: (Mean(81.84, 1.22), Mean(87.48, 0.42), Mean(87.82, 0.59)),
        300: (Mean(89.81, 0.73), Mean(92.86, 0.24), Mean(92.87, 0.28)),
        600: (Mean(91.35, 0.99), Mean(95.16, 0.15), Mean(95.30, 0.17)),
    },
}
"""Of the last block on MNIST: VanGL, TRGL, end to end."""
CIFAR10 = "10-1, sequential, 1000 images of CIFAR10: VanGL 45.7 ± 0.9, TRGL 51.3 ± 0.9"


class Job(NamedTuple):
    """One network to train, and what its exits are measured on."""

    net: str
    schedule: str
    tau: float | None
    """None: VanGL, or end to end."""
    lr: float
    images: int
    seed: int
    split: str
    epochs: int
    device: str


@cache
def compiled(net: str, device: str) -> Program:
    """A network, cut into a module for each block."""
    modules, double = NETS[net]
    options: dict[str, Any] = {"in_chans": 1, "image_size": 8, "double": double}
    model = km_resnet(modules, 1, channels=CHANNELS, init=None, **options)
    return transportify(model.to(device), modules=modules)


def train(job: Job) -> list[float]:
    """The accuracy of every exit in % when training is over; end to end has one."""
    torch.manual_seed(job.seed)
    # with the auxiliary heads
    program = initialize(copy.deepcopy(compiled(job.net, job.device)), "orthogonal", GAIN)
    objective = vangl() if job.tau is None else trgl(job.tau)
    given = digits(job.images, job.seed, job.device)
    recipe = Recipe(job.lr, BATCH)
    modules = (program.whole,) if job.schedule == END_TO_END else program.parts
    if job.schedule == "sequential":
        train_in_turn(program, objective, recipe, given.train, job)
    else:
        learners = Learners(modules, objective, recipe, job.seed)
        for _ in range(job.epochs):
            learners.epoch(given.train)
    return exits(modules, {"validation": given.validation, "test": given.test}[job.split])


def train_in_turn(
    program: Program, objective: Objective, recipe: Recipe, train: Split, job: Job
) -> None:
    """Each module to its end, on what those before it, frozen, make of the images."""
    for part in program.parts:
        learner = Learners((part,), objective, recipe, job.seed)
        for _ in range(job.epochs):
            learner.epoch(train)
        train = passed_on(part, train)


def last_exits(jobs: Iterable[Job], processes: int) -> dict[Job, float]:
    """The mean accuracy of the last exit over seeds, by a job with the seed left out."""
    found: dict[Job, list[float]] = defaultdict(list)
    for job, accuracies in done_in_processes(train, jobs, processes):
        found[job._replace(seed=-1)].append(accuracies[-1])
    return {job: statistics.fmean(values) for job, values in found.items()}


class Tuning(NamedTuple):
    """What is chosen for a network and a schedule."""

    lr: float
    tau: float | None = None


def tune(
    net: str, seeds: range, epochs: int, processes: int, device: str
) -> tuple[dict[str, Tuning], list[dict[str, Any]]]:
    """By schedule: the learning rate by VanGL's last exit (or end to end's), then τ by TRGL's.

    Returns:
        What is chosen, and all validation accuracies.
    """
    base = Job(net, END_TO_END, None, 0.0, TUNED_AT, -1, "validation", epochs, device)
    rates = [base._replace(schedule=s, lr=lr) for s in (*SCHEDULES, END_TO_END) for lr in LRS]
    found = last_exits(_seeded(rates, seeds), processes)
    best = {s: _best(found, s) for s in (*SCHEDULES, END_TO_END)}
    with_cost = [best[s]._replace(tau=tau) for s in SCHEDULES for tau in TAUS]
    found_with_cost = last_exits(_seeded(with_cost, seeds), processes)
    chosen = {s: Tuning(best[s].lr, _best(found_with_cost, s).tau) for s in SCHEDULES}
    chosen[END_TO_END] = Tuning(best[END_TO_END].lr)
    figures = [
        {"schedule": j.schedule, "lr": j.lr, "tau": j.tau, "validation": round(value, 2)}
        for j, value in (found | found_with_cost).items()
    ]
    return chosen, figures


def _seeded(jobs: Iterable[Job], seeds: range) -> list[Job]:
    return [job._replace(seed=seed) for job in jobs for seed in seeds]


def _best(found: dict[Job, float], schedule: str) -> Job:
    return max((job for job in found if job.schedule == schedule), key=found.__getitem__)


def measure(
    net: str,
    chosen: dict[str, Tuning],
    images: int,
    seeds: int,
    epochs: int,
    processes: int,
    device: str,
) -> dict[Job, list[list[float]]]:
    """The exits' test accuracies, seeds×exits, by a job with the seed left out."""
    jobs = [
        Job(net, schedule, tau, tuning.lr, images, -1, "test", epochs, device)
        for schedule, tuning in chosen.items()
        for tau in dict.fromkeys((None, tuning.tau))
    ]
    found = dict(done_in_processes(train, _seeded(jobs, range(seeds)), processes))
    return {job: [found[job._replace(seed=seed)] for seed in range(seeds)] for job in jobs}


def last(exits_of_seeds: list[list[float]]) -> list[float]:
    """The last exit's accuracies."""
    return [accuracies[-1] for accuracies in exits_of_seeds]


def verdict(falls: Mean, gain: Mean) -> str:
    """Whether the published effect shows: VanGL falls with depth, and TRGL gains on it."""
    stagnates = "VanGL falls with depth" if falls.sign < 0 else "VanGL does not fall"
    repairs = {1: "TRGL repairs it", 0: "TRGL changes nothing", -1: "TRGL is worse"}[gain.sign]
    if falls.sign >= 0 and gain.sign > 0:
        repairs = "TRGL is better"
    return f"{stagnates}; {repairs}"


def pick(found: Iterable[Job], like: Job, schedule: str, regularised: bool) -> Job:
    """The job for the same network and images."""
    wanted = (like.net, schedule, like.images, regularised)
    return next(j for j in found if (j.net, j.schedule, j.images, j.tau is not None) == wanted)


def row_of(found: dict[Job, list[list[float]]], greedy: Job) -> list[str]:
    """One line: a network, a schedule and a number of images."""
    vanilla = found[greedy]
    regularised = found[pick(found, greedy, greedy.schedule, regularised=True)]
    whole = found[pick(found, greedy, END_TO_END, regularised=False)]
    first = [accuracies[0] for accuracies in vanilla]
    falls = paired(last(vanilla), first)
    gain = paired(last(regularised), last(vanilla))
    there = PUBLISHED.get((greedy.net, greedy.schedule), {}).get(greedy.images)
    published = " → ".join(f"{mean.mean:.1f}" for mean in there[:2]) if there else ""
    return [
        f"{greedy.net}, {greedy.schedule}",
        str(greedy.images),
        str(mean_of(first)),
        str(mean_of(last(vanilla))),
        str(mean_of(last(regularised))),
        str(mean_of(last(whole))),
        f"{gain.mean:+.1f} ± {gain.half:.1f}",
        verdict(falls, gain),
        published,
    ]


def show(found: dict[Job, list[list[float]]]) -> None:
    """Print the last exits beside the published ones, and the means of all exits."""
    console = Console(width=160)
    columns = ("", "images", "VanGL, 1st exit", "VanGL, last", "TRGL, last", END_TO_END)
    table = Table(*columns, "TRGL − VanGL", "", "MNIST, published", title="test accuracy, %")
    greedy = [job for job in found if job.schedule in SCHEDULES and job.tau is None]
    for job in greedy:
        table.add_row(*row_of(found, job))
    console.print(table)
    console.print(f"published besides: {CIFAR10}")
    for job, accuracies in found.items():
        if job.schedule in SCHEDULES:
            means = (f"{statistics.fmean(a):.0f}" for a in zip(*accuracies, strict=True))
            name = "VanGL" if job.tau is None else f"TRGL, τ = {job.tau:g}"
            console.print(f"{job.net}, {job.schedule}, {job.images}, {name}: {' '.join(means)}")


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--quick", is_flag=True, help="Two seeds and an epoch, to see that it runs.")
@click.option("--seeds", default=10, show_default=True)
@click.option("--processes", default=2, show_default=True)
@click.option(
    "--net",
    "nets",
    multiple=True,
    default=[*NETS],
    type=click.Choice([*NETS]),
    help="Train this alone, and keep what the results have of the other.",
)
def main(device: str, quick: bool, seeds: int, processes: int, nets: tuple[str, ...]) -> None:
    """Tune, train, print and write the accuracies after every module."""
    epochs = dict.fromkeys(EPOCHS, 1) if quick else EPOCHS
    tuning = TUNING_SEEDS[:1] if quick else TUNING_SEEDS
    found: dict[Job, list[list[float]]] = {}
    for net in nets:
        chosen, figures = tune(net, tuning, epochs[TUNED_AT], processes, device)
        results: dict[str, Any] = {f"{net}, validation": figures}
        for images, count in epochs.items():
            start = time.perf_counter()
            some = 2 if quick else seeds
            of_size = measure(net, chosen, images, some, count, processes, device)
            results[f"{net}, {images} images"] = {
                "seeds": some,
                "seconds": round(time.perf_counter() - start),
                "test": [described(job, rows) for job, rows in of_size.items()],
            }
            found |= of_size
            if not quick:
                merge("stagnation", device, results)
    show(found)


def described(job: Job, exits_of_seeds: list[list[float]]) -> dict[str, Any]:
    """A job and its accuracies, to be written."""
    kept = ("schedule", "tau", "lr", "epochs")
    rounded = [[round(accuracy, 2) for accuracy in row] for row in exits_of_seeds]
    return {name: getattr(job, name) for name in kept} | {"accuracies": rounded}


if __name__ == "__main__":
    main()
