"""Small auxiliary heads beside those of DGL: accuracy after every part, on three small data sets.

    python benchmarks/heads.py [--device cuda] [--quick] [--seeds 10] [--budget 2 ...]

ResNet-20 for CIFAR, with 16 channels on digits of 16×16 pixels and with 8 on the larger images,
is cut into 4 parts, equally deep. They train in parallel, each on the loss of its own head: without
a transport cost (VanGL), or with it (``--objective TRGL``). SGD with momentum 0.9 and weight decay
1e-4, batches of 64, a learning rate that falls from 0.05 to 0 along a cosine. Few images are
trained on, so that accuracies are not all near 100 %. The test accuracies after the last epoch
count; nothing is chosen by them.

Heads are what the library plans for these parts, so what is compared is what a user gets. Parts
are small here, and so the small heads have sizes from the lower end.

The methods of a seed have the same split, order of batches and initial network, and are compared
in pairs. Each cell, one network trained, is written when it is done, and is not trained again
while its heads stay the same. A pass takes less than 25 minutes of one core.
"""

import json
import time
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import click
import torch
from common import RESULTS, merge
from digits import Split
from digits import exits as exits_of
from intervals import mean_of, paired
from rich.console import Console
from rich.table import Table
from workers import run_in_processes

from fxtransport import Program, transportify
from fxtransport.data import Splits, load
from fxtransport.nets import cifar_resnet
from fxtransport.objectives import trgl, vangl
from fxtransport.training import OptimizerSettings, Parallel, Trainer, TrainerSettings

MODULES, BATCH, EVALUATED = 4, 64, 500
DGL = "dgl"
OBJECTIVES = {"VanGL": vangl, "TRGL": lambda: trgl(0.5)}
OPTIMIZER = OptimizerSettings(lr=0.05, scheduler="cosine")


class Task(NamedTuple):
    """A data set, and a network for it."""

    size: int
    """Height and width of the images."""
    image_channels: int
    channels: int
    """Of the first stage; the next have twice as many each."""
    train: int
    """The number of training images."""
    epochs: int


TASKS = {
    "digits": Task(16, 1, 16, 300, 30),
    "mnist5k": Task(28, 1, 8, 500, 12),
    "patches": Task(32, 3, 8, 600, 12),
}


class Job(NamedTuple):
    """One network to train."""

    data: str
    objective: str
    head: str
    """``dgl``, or the budget of small heads: ``2 %``."""
    seed: int
    device: str
    quick: bool = False

    @property
    def cell(self) -> str:
        """Its key in the results."""
        return f"{self.data}, {self.objective}, {self.head}, seed {self.seed}"


def head_of(budget: float) -> str:
    """``2 %``."""
    return f"{budget:g} %"


def compile_network(job: Job) -> Program:
    """A new network, cut, with its heads; the seed draws the weights of both."""
    task = TASKS[job.data]
    torch.manual_seed(job.seed)
    model = cifar_resnet(
        20, width=task.channels, in_chans=task.image_channels, image_size=task.size
    )
    options: dict[str, Any] = {"head": DGL}
    if job.head != DGL:
        options = {"head_budget": float(job.head.removesuffix(" %"))}
    return transportify(
        model.to(job.device), modules=MODULES, batch_size=BATCH, verify=False, **options
    )


@cache
def heads_of(job: Job) -> list[dict[str, Any]]:
    """Size and costs of the heads of a job, which do not depend on its seed."""
    facts = compile_network(job).facts
    return [
        {
            "pooled": head.pooled,
            "width": head.width,
            "percent_of_flops": round(100 * cost.flops / part.flops, 2),
            "percent_of_bytes": round(100 * cost.activation_bytes / part.activation_bytes, 2),
        }
        for head, cost, part in zip(
            facts.heads.heads[:-1], facts.heads.costs, facts.partition.segments, strict=False
        )
    ]


def open_data(job: Job) -> Splits:
    """The splits of a seed."""
    task = TASKS[job.data]
    return load(
        job.data,
        seed=job.seed,
        batch_size=BATCH,
        eval_batch_size=EVALUATED,
        input_size=(task.image_channels, task.size, task.size),
        train_samples=task.train,
        drop_last=True,
    )


def train(job: Job) -> dict[str, Any]:
    """The test accuracy after each part, in %, and the seconds that training took."""
    start = time.process_time()
    program, splits = compile_network(job), open_data(job)
    schedule = Parallel(1 if job.quick else TASKS[job.data].epochs)
    settings = TrainerSettings(seed=job.seed)
    trainer = Trainer(
        program, OBJECTIVES[job.objective](), schedule, optimizer=OPTIMIZER, settings=settings
    )
    trainer.fit(splits.train)
    correct, count = torch.zeros(MODULES), 0
    for images, classes in splits.test:
        split = Split(images.to(job.device), classes.to(job.device))
        correct += torch.tensor(exits_of(program.parts, split)) * len(classes)
        count += len(classes)
    accuracies = [round(value, 2) for value in (correct / count).tolist()]
    return {"accuracies": accuracies, "seconds": round(time.process_time() - start, 1)}


def known_cells(device: str) -> dict[str, Any]:
    """What was written before."""
    path = RESULTS / f"heads.{device}.json"
    return dict(json.loads(path.read_text())["results"]) if path.exists() else {}


def measure(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    """All cells: those that are known, then the others, each written when it is done."""
    known = {} if jobs[0].quick else known_cells(jobs[0].device)
    missing = []
    for job in jobs:
        cell = known.get(job.cell)
        if cell is not None and cell["heads"] == heads_of(job._replace(seed=0)):
            yield job, cell
        else:
            missing.append(job)
    for job, found in run_in_processes(train, missing, processes):
        cell = {"heads": heads_of(job._replace(seed=0)), **found}
        if not job.quick:
            merge("heads", job.device, {job.cell: cell})
        yield job, cell


def table_of(cells: dict[Job, dict[str, Any]], exits: int = MODULES) -> Table:
    """For each set, objective and head: accuracies after every part, and the difference."""
    after = [f"after part {part}" for part in range(exits)]
    columns = ("", "head", "pooled, width", "FLOPs, %", "bytes, %", *after)
    table = Table(*columns, "last − DGL's", "", title="test accuracy, %, with 95 % intervals")
    kinds = dict.fromkeys(job._replace(seed=-1) for job in cells)
    for kind in kinds:
        rows = rows_of(cells, kind)
        base = rows_of(cells, kind._replace(head=DGL))
        heads = next(c["heads"] for job, c in cells.items() if job._replace(seed=-1) == kind)
        compared = ["", ""]
        if kind.head != DGL:
            seeds = sorted(rows.keys() & base.keys())
            gain = paired([rows[s][-1] for s in seeds], [base[s][-1] for s in seeds])
            verdict = {-1: "loses", 0: "loses nothing", 1: "gains"}[gain.sign]
            compared = [f"{gain.mean:+.2f} ± {gain.half:.2f}", verdict]
        table.add_row(
            f"{kind.data}, {kind.objective}",
            kind.head,
            " ".join(f"{h['pooled']},{h['width']}" for h in heads),
            " ".join(f"{h['percent_of_flops']:.1f}" for h in heads),
            " ".join(f"{h['percent_of_bytes']:.1f}" for h in heads),
            *(str(mean_of(values)) for values in zip(*rows.values(), strict=True)),
            *compared,
            end_section=kind.head != DGL,
        )
    return table


def rows_of(cells: dict[Job, dict[str, Any]], kind: Job) -> dict[int, list[float]]:
    """The accuracies after each part, by seed, of a job with the seed left out."""
    return {
        job.seed: cell["accuracies"]
        for job, cell in sorted(cells.items())
        if job._replace(seed=-1) == kind
    }


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--quick", is_flag=True, help="Two seeds and one epoch, to see that it runs.")
@click.option("--seeds", default=10, show_default=True)
@click.option("--processes", default=1, show_default=True)
@click.option("--budget", "budgets", multiple=True, type=float, default=(2.0,), show_default=True)
@click.option("--data", "sets", multiple=True, type=click.Choice([*TASKS]), default=[*TASKS])
@click.option(
    "--objective", "objectives", multiple=True, type=click.Choice([*OBJECTIVES]), default=["VanGL"]
)
def main(
    device: str,
    quick: bool,
    seeds: int,
    processes: int,
    budgets: tuple[float, ...],
    sets: tuple[str, ...],
    objectives: tuple[str, ...],
) -> None:
    """Train, print and write the accuracies of both kinds of heads."""
    heads = (DGL, *map(head_of, budgets))
    # seed by seed, so that what is there at any time can be compared
    jobs = [
        Job(data, objective, head, seed, device, quick)
        for seed, objective, data, head in product(
            range(2 if quick else seeds), objectives, sets, heads
        )
    ]
    found = dict(measure(jobs, processes))
    cells = {job: found[job] for job in sorted(jobs, key=lambda j: (j.data, j.objective))}
    Console(width=200).print(table_of(cells))


if __name__ == "__main__":
    main()
