"""Does greedy training stagnate with depth, and does TRGL repair it? On few digits.

    python benchmarks/stagnation.py [--device cuda] [--quick] [--seeds 10]

Published (THESIS tables 11 and 25): with few images, the last of many parts that are each trained
on their own loss (VanGL) is worse than the first ones, and the transport cost (TRGL) repairs it.
Here, with 16 channels and on 8×8 digits: the single-representation ResNet of 20 blocks, each a
part, with one classifier of two linear layers that all share, as published; and the 10-1 network,
whose channels double in the middle and whose parts have their own heads. The published 20 blocks
follow an encoder that was trained before; here the first part trains it. Orthogonal initialization
of gain 0.05, also of the heads; SGD with momentum 0.9, batches of 128, weight decay 1e-4.

Each seed has its own split and initialization, which all methods share. On other seeds, at 150
images, the learning rate is chosen by the validation accuracy of VanGL's last exit, and τ for each
learning rate by that of TRGL's. At 150 images all learning rates are tested, since the published
figures do not say whether theirs is VanGL's best. Accuracies are those after the last epoch; in
sequential training, the accuracy of an exit is the one after its part has been trained.
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
from digits import Learners, Recipe, SharedHead, Split, WithHead, digits, exits, hand_on
from intervals import Mean, mean_of, paired
from rich.console import Console
from rich.table import Table
from workers import run_in_processes

from fxtransport import transportify
from fxtransport.nets import initialize, km_resnet, resnet_m
from fxtransport.objectives import Objective, trgl, vangl
from fxtransport.program import Program

TWENTY, TEN = NETS = ("20 blocks", "10-1")
SCHEDULES = ("parallel", "sequential")
END_TO_END = "end to end"
CHANNELS, GAIN, BATCH = 16, 0.05, 128
EPOCHS = {150: 160, 300: 110, 600: 70}
"""The epochs of each part, by training images: 320 to 350 steps."""
LRS, TAUS = (0.003, 0.01, 0.03), (0.05, 0.5, 5.0)
TUNED_AT, TUNING_SEEDS = 150, range(1000, 1002)

PUBLISHED = {
    (TWENTY, "parallel"): {
        150: (Mean(81.84, 1.22), Mean(87.48, 0.42), Mean(87.82, 0.59)),
        300: (Mean(89.81, 0.73), Mean(92.86, 0.24), Mean(92.87, 0.28)),
        600: (Mean(91.35, 0.99), Mean(95.16, 0.15), Mean(95.30, 0.17)),
    },
}
"""The last block on MNIST: VanGL, TRGL, end to end."""
CIFAR10 = "10-1, sequential, 1000 images of CIFAR10: VanGL 45.7 ± 0.9, TRGL 51.3 ± 0.9"


class Job(NamedTuple):
    """One network to train, and the split to measure its exits on."""

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


Found = dict[Job, list[list[float]]]
"""Test accuracies, seeds×exits, by a job with the seed left out."""


@cache
def compile_network(net: str, device: str) -> Program:
    """A network, cut into a part for each block."""
    if net == TWENTY:
        model = resnet_m(20, channels=CHANNELS, image_size=8, init=None)
        return transportify(model.to(device), modules=20, head="none")
    model = km_resnet(10, channels=CHANNELS, in_chans=1, image_size=8, init=None)
    return transportify(model.to(device), modules=10)


def parts_of(program: Program, job: Job) -> list[WithHead]:
    """What the schedule trains, each with a head."""
    if job.schedule == END_TO_END:
        return [program.whole]
    if job.net != TWENTY:
        return [*program.parts]
    # the last part runs the network's own head itself
    *parts, last = program.parts
    shared = program.get_submodule("head")
    return [*(SharedHead(part, shared) for part in parts), last]


def train(job: Job) -> list[float]:
    """The accuracy of every exit in %; end to end has one."""
    torch.manual_seed(job.seed)
    # with the auxiliary heads
    program = initialize(copy.deepcopy(compile_network(job.net, job.device)), "orthogonal", GAIN)
    objective = vangl() if job.tau is None else trgl(job.tau)
    given = digits(job.images, job.seed, job.device)
    looked_at = {"validation": given.validation, "test": given.test}[job.split]
    recipe = Recipe(job.lr, BATCH)
    parts = parts_of(program, job)
    if job.schedule == "sequential":
        return train_in_turn(parts, objective, recipe, given.train, looked_at, job)
    learners = Learners(parts, objective, recipe, job.seed)
    for _ in range(job.epochs):
        learners.epoch(given.train)
    return exits(parts, looked_at)


def train_in_turn(
    parts: list[WithHead],
    objective: Objective,
    recipe: Recipe,
    train: Split,
    looked_at: Split,
    job: Job,
) -> list[float]:
    """Each part to its end, on what the frozen parts before it make of the images."""
    accuracies: list[float] = []
    for part in parts:
        learner = Learners((part,), objective, recipe, job.seed)
        for _ in range(job.epochs):
            learner.epoch(train)
        accuracies += exits((part,), looked_at)
        if part is not parts[-1]:
            train, looked_at = hand_on(part, train), hand_on(part, looked_at)
    return accuracies


def last_exits(jobs: Iterable[Job], processes: int) -> dict[Job, float]:
    """The mean accuracy of the last exit over seeds, by a job with the seed left out."""
    found: dict[Job, list[float]] = defaultdict(list)
    for job, accuracies in run_in_processes(train, jobs, processes):
        found[job._replace(seed=-1)].append(accuracies[-1])
    return {job: statistics.fmean(values) for job, values in found.items()}


class Tuning(NamedTuple):
    """What was chosen for a network and a schedule."""

    lr: float
    """VanGL's best, or end to end's."""
    taus: dict[float, float]
    """TRGL's best for each learning rate."""


def tune(
    net: str, seeds: range, epochs: int, processes: int, device: str
) -> tuple[dict[str, Tuning], list[dict[str, Any]]]:
    """By schedule, from the last exits on validation.

    Returns:
        What was chosen, and all validation accuracies.
    """
    base = Job(net, END_TO_END, None, 0.0, TUNED_AT, -1, "validation", epochs, device)
    rates = [base._replace(schedule=s, lr=lr) for s in (*SCHEDULES, END_TO_END) for lr in LRS]
    costs = [job._replace(tau=tau) for job in rates if job.schedule != END_TO_END for tau in TAUS]
    found = last_exits(_with_seeds(rates + costs, seeds), processes)

    def best(candidates: list[Job], **like: object) -> Job:
        alike = [j for j in candidates if all(getattr(j, k) == v for k, v in like.items())]
        return max(alike, key=found.__getitem__)

    chosen = {
        schedule: Tuning(
            best(rates, schedule=schedule).lr,
            {lr: best(costs, schedule=schedule, lr=lr).tau or 0.0 for lr in LRS}
            if schedule in SCHEDULES
            else {},
        )
        for schedule in (*SCHEDULES, END_TO_END)
    }
    figures = [
        {"schedule": j.schedule, "lr": j.lr, "tau": j.tau, "validation": round(value, 2)}
        for j, value in found.items()
    ]
    return chosen, figures


def _with_seeds(jobs: Iterable[Job], seeds: range) -> list[Job]:
    return [job._replace(seed=seed) for job in jobs for seed in seeds]


def measure(
    net: str,
    chosen: dict[str, Tuning],
    images: int,
    seeds: int,
    epochs: int,
    processes: int,
    device: str,
) -> Found:
    """The exits' test accuracies, seeds×exits, by a job with the seed left out."""
    base = Job(net, END_TO_END, None, chosen[END_TO_END].lr, images, -1, "test", epochs, device)
    jobs = [base] + [
        base._replace(schedule=schedule, lr=lr, tau=tau)
        for schedule in SCHEDULES
        for lr in (LRS if images == TUNED_AT else (chosen[schedule].lr,))
        for tau in (None, chosen[schedule].taus[lr])
    ]
    found = dict(run_in_processes(train, _with_seeds(jobs, range(seeds)), processes))
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


def row_of(found: Found, greedy: Job, tuned: bool) -> list[str]:
    """One line: a network, a schedule, a number of images and a learning rate."""
    alike = [j for j in found if j.net == greedy.net and j.images == greedy.images]
    same = [j for j in alike if (j.schedule, j.lr) == (greedy.schedule, greedy.lr)]
    cost = next(j for j in same if j.tau is not None)
    whole = next(j for j in alike if j.schedule == END_TO_END)
    first = [accuracies[0] for accuracies in found[greedy]]
    falls = paired(last(found[greedy]), first)
    gain = paired(last(found[cost]), last(found[greedy]))
    there = PUBLISHED.get((greedy.net, greedy.schedule), {}).get(greedy.images)
    return [
        f"{greedy.net}, {greedy.schedule}",
        str(greedy.images),
        f"{greedy.lr:g}{' *' if tuned else ''}",
        str(mean_of(first)),
        str(mean_of(last(found[greedy]))),
        str(mean_of(last(found[cost]))),
        str(mean_of(last(found[whole]))),
        f"{gain.mean:+.1f} ± {gain.half:.1f}",
        verdict(falls, gain),
        " → ".join(f"{mean.mean:.1f}" for mean in there[:2]) if there else "",
    ]


def show(found: Found, tuned: dict[tuple[str, str], float]) -> None:
    """Print the last exits beside the published ones, and the means of all exits."""
    console = Console(width=170)
    columns = ("", "images", "lr", "VanGL, 1st exit", "VanGL, last", "TRGL, last", END_TO_END)
    title = "test accuracy, %; * is the learning rate of VanGL's best validation accuracy"
    table = Table(*columns, "TRGL − VanGL", "", "MNIST, published", title=title)
    for job in found:
        if job.schedule in SCHEDULES and job.tau is None:
            table.add_row(*row_of(found, job, tuned[job.net, job.schedule] == job.lr))
    console.print(table)
    console.print(f"also published: {CIFAR10}")
    for job, accuracies in found.items():
        if job.schedule in SCHEDULES:
            means = (f"{statistics.fmean(a):.0f}" for a in zip(*accuracies, strict=True))
            name = "VanGL" if job.tau is None else f"TRGL, τ = {job.tau:g}"
            where = f"{job.net}, {job.schedule}, {job.images}, lr {job.lr:g}"
            console.print(f"{where}, {name}: {' '.join(means)}")


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
    help="Train only this one, and keep the results of the other.",
)
def main(device: str, quick: bool, seeds: int, processes: int, nets: tuple[str, ...]) -> None:
    """Tune, train, print and write the accuracies after every part."""
    epochs = dict.fromkeys(EPOCHS, 1) if quick else EPOCHS
    tuning_seeds = TUNING_SEEDS[:1] if quick else TUNING_SEEDS
    found: Found = {}
    tuned: dict[tuple[str, str], float] = {}
    for net in nets:
        chosen, figures = tune(net, tuning_seeds, epochs[TUNED_AT], processes, device)
        tuned |= {(net, schedule): tuning.lr for schedule, tuning in chosen.items()}
        results: dict[str, Any] = {f"{net}, validation": figures}
        for images, count in epochs.items():
            start = time.perf_counter()
            some = 2 if quick else seeds
            of_size = measure(net, chosen, images, some, count, processes, device)
            results[f"{net}, {images} images"] = {
                "seeds": some,
                "seconds": round(time.perf_counter() - start),
                "test": [describe(job, rows) for job, rows in of_size.items()],
            }
            found |= of_size
            if not quick:
                merge("stagnation", device, results)
    show(found, tuned)


def describe(job: Job, exits_of_seeds: list[list[float]]) -> dict[str, Any]:
    """A job and its accuracies, to be written."""
    kept = ("schedule", "tau", "lr", "epochs")
    rounded = [[round(accuracy, 2) for accuracy in row] for row in exits_of_seeds]
    return {name: getattr(job, name) for name in kept} | {"accuracies": rounded}


if __name__ == "__main__":
    main()
