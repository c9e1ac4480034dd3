"""LAP on two concentric circles: tables 19 to 22 of THESIS F.5.2, beside the published figures.

    python benchmarks/circles.py [--device cuda] [--quick] [--instances 100] [--cost norm]

An instance is a set of its own and an initialization of its own; the three methods have the
same instances. All instances of a setting train together (:mod:`instances`), on the CPU in two
processes of one thread each.

What the papers say: 1000 points of which a fifth is for the test, two linear layers a block
with batch norm and ReLU between, a fixed linear classifier, the best test accuracy of 100
epochs, λ0 = 0.1, τ = 0.1, s = 5. What they do not say is as in the program that the authors
released then: noise 0.05 and factor 0.3, two hidden units, Kaiming initialization, the
classifier x₁ + x₂ + 20 against 0, Adam with learning rate 0.01 and β = (0.9, 0.99), batches of
10 in a fixed order. LAP minimizes λL + C there, not L + C/λ, which to Adam is not the same while
λ is small. And C adds up the norms of the blocks' residues over the whole batch, ‖r‖, where the
text has the mean over the batch of ‖r‖² (``--cost sum``) and the programs for images the mean of
r² over everything (``--cost mean``).
"""

from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import click
import torch
from common import merge, seconds
from instances import Instances, Multipliers
from intervals import Mean, mean_of
from rich.console import Console
from rich.table import Table
from sklearn.datasets import make_circles
from sklearn.model_selection import train_test_split
from torch import Tensor
from workers import run_in_processes

from fxtransport.nets import circles_resnet
from fxtransport.objectives import TransportCost
from fxtransport.residue import Measure, Residue

METHODS = ("vanilla", "fixed λ", "LAP")
FIRST, RATE, EVERY = 0.1, 0.1, 5
"""λ0, τ and s of LAP."""
EPOCHS, BATCH = 100, 10
TWO_BLOCKS = "2 blocks"
RUNNING = 3
"""The number of epochs at 100 % in a row after which it counts as reached."""


@dataclass(frozen=True)
class Setting:
    """A table, and what is published in it: mean and interval by batch norm and method."""

    title: str
    blocks: int
    multiplier: float
    """The fixed λ."""
    published: dict[bool, tuple[Mean, ...]]
    points: int = 1000
    std: float | None = None


SETTINGS = {
    "1 block": Setting(
        "1 block",
        1,
        0.005,
        {
            False: (Mean(76.6, 3.5), Mean(76.5, 3.5), Mean(82.1, 2.6)),
            True: (Mean(75.4, 3.1), Mean(75.6, 3.3), Mean(84.6, 3.1)),
        },
    ),
    "100 blocks": Setting(
        "100 blocks",
        100,
        0.09,
        {
            False: (Mean(89.1, 0.9), Mean(69.7, 4.0), Mean(75.7, 2.9)),
            True: (Mean(99.4, 0.4), Mean(99.5, 0.6), Mean(99.8, 0.2)),
        },
    ),
    "50 points": Setting(
        "50 points, 9 blocks",
        9,
        0.04,
        {
            False: (Mean(88.2, 2.3), Mean(93.5, 2.1), Mean(95.8, 1.8)),
            True: (Mean(92.9, 2.0), Mean(94.4, 2.0), Mean(96.0, 1.3)),
        },
        points=50,
    ),
    "N(0, 5)": Setting(
        "N(0, 5) initialization, 9 blocks",
        9,
        0.04,
        {
            False: (Mean(90.2, 1.3), Mean(89.7, 1.5), Mean(79.1, 3.9)),
            True: (Mean(98.0, 0.8), Mean(99.7, 0.2), Mean(99.4, 0.4)),
        },
        std=5.0,
    ),
    TWO_BLOCKS: Setting("2 blocks", 2, 0.01, {}),
}
TABLES = list(product(SETTINGS, (False, True)))
"""Names of settings, and whether with batch norm."""
EPOCHS_TO_REACH = {("vanilla", False): 73, ("vanilla", True): 71}
EPOCHS_TO_REACH |= {("fixed λ", False): 54, ("fixed λ", True): 64}
"""For two blocks, published without interval."""


def norm(residue: Residue) -> Tensor:
    """The norm of a block's residue over the whole batch."""
    length: Tensor = residue.branch.norm()
    return length


COSTS: dict[str, Measure] = {
    "norm": norm,
    "sum": TransportCost(reduction="sum"),
    "mean": TransportCost(),
}


class Job(NamedTuple):
    """What a process does at once: all methods of a setting, with or without batch norm."""

    name: str
    batch_norm: bool
    cost: str
    instances: int
    epochs: int
    device: str

    @property
    def title(self) -> str:
        """Its name on the command line and in the results."""
        return title_of(self.name, self.batch_norm)


def title_of(name: str, batch_norm: bool) -> str:
    """``1 block, batch norm``."""
    return f"{name}, batch norm" if batch_norm else name


def points_of(setting: Setting, seed: int) -> list[Tensor]:
    """Training points, test points, training classes, test classes."""
    points, classes = make_circles(setting.points, noise=0.05, factor=0.3, random_state=seed)
    arrays = train_test_split(points, classes, test_size=0.2, random_state=seed)
    train, test, train_classes, test_classes = map(torch.from_numpy, arrays)
    return [train.float(), test.float(), train_classes, test_classes]


def multipliers_of(setting: Setting, instances: int, device: str) -> Multipliers:
    """Those of instances trained by vanilla, by a fixed λ, and by LAP; this many of each."""
    rows = torch.tensor([[1, 1, FIRST], [0, setting.multiplier, 1], [0, 0, RATE]], device=device)
    loss, cost, rate = rows.repeat_interleave(instances, dim=1)
    return Multipliers(loss, cost, rate, EVERY)


def train(job: Job) -> Tensor:
    """Test accuracies, methods×instances×epochs."""
    setting = SETTINGS[job.name]
    models, sets = [], []
    for seed in range(job.instances):
        torch.manual_seed(seed)
        net = circles_resnet(setting.blocks, batch_norm=job.batch_norm, std=setting.std)
        models.append(net.to(job.device))
        sets.append(points_of(setting, seed))
    parts = [torch.stack(part).to(job.device) for part in zip(*sets, strict=True)]
    x, test_x, y, test_y = (torch.cat([part] * len(METHODS)) for part in parts)
    stack = Instances(models * len(METHODS), COSTS[job.cost])
    multipliers = multipliers_of(setting, job.instances, job.device)
    optimizer = torch.optim.Adam(stack.parameters.values(), lr=0.01, betas=(0.9, 0.99), fused=True)
    accuracies = []
    for _ in range(job.epochs):
        for batch in zip(x.split(BATCH, dim=1), y.split(BATCH, dim=1), strict=True):
            stack.backward(*batch, multipliers)
            optimizer.step()
        accuracies.append(stack.accuracies(test_x, test_y))
    return torch.stack(accuracies, dim=-1).unflatten(0, (len(METHODS), job.instances)).cpu()


def epochs_to_reach(accuracies: Tensor) -> Tensor:
    """The last of the first three epochs in a row at 100 %; without such, the number of epochs.

    The authors' program counts in this way.

    Args:
        accuracies: …×epochs.
    """
    perfect = accuracies == 1
    rows = perfect.unfold(-1, RUNNING, 1).all(-1)
    first = rows.int().argmax(-1) + RUNNING
    reached: Tensor = torch.where(rows.any(-1), first, perfect.shape[-1])
    return reached


def measure(job: Job) -> dict[str, Any]:
    """Best accuracies in % and epochs to reach 100 %, by method, of each instance."""
    accuracies: list[Tensor] = []
    taken = seconds(lambda: accuracies.append(train(job)))
    best = (100 * accuracies[0].amax(-1)).tolist()
    reached = epochs_to_reach(accuracies[0]).tolist()
    return {
        "instances": job.instances,
        "epochs_at_most": job.epochs,
        "seconds": round(taken, 1),
        "best": {m: [round(b, 3) for b in row] for m, row in zip(METHODS, best, strict=True)},
        "epochs": dict(zip(METHODS, reached, strict=True)),
    }


def accuracy_table(results: dict[str, Any]) -> Table:
    """Best test accuracies beside the published ones."""
    table = Table("", "method", "here, %", "published, %", "", title="best test accuracy")
    for name, batch_norm in TABLES:
        title = title_of(name, batch_norm)
        if title not in results or not SETTINGS[name].published:
            continue
        for method, there in zip(METHODS, SETTINGS[name].published[batch_norm], strict=True):
            here = mean_of(results[title]["best"][method])
            first = title if method == METHODS[0] else ""
            table.add_row(first, method, str(here), str(there), here.against(there))
        table.add_section()
    return table


def epochs_table(results: dict[str, Any]) -> Table:
    """Epochs until three in a row are at 100 %, of two blocks."""
    table = Table(TWO_BLOCKS, "here", "published", "", title="epochs to reach 100 %")
    for (method, batch_norm), there in EPOCHS_TO_REACH.items():
        title = title_of(TWO_BLOCKS, batch_norm)
        if title in results:
            here = mean_of(results[title]["epochs"][method])
            verdict = here.against(Mean(there, 0))
            table.add_row(title_of(method, batch_norm), str(here), str(there), verdict)
    return table


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--quick", is_flag=True, help="A few instances and epochs, to see that it runs.")
@click.option("--instances", default=100, show_default=True)
@click.option("--cost", default="norm", show_default=True, type=click.Choice([*COSTS]))
@click.option("--processes", default=2, show_default=True)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([title_of(*table) for table in TABLES]),
    help="Train only these, and keep the results of the others.",
)
def main(
    device: str, quick: bool, instances: int, cost: str, processes: int, only: tuple[str, ...]
) -> None:
    """Train, print and write the tables of the circles."""
    epochs = RUNNING if quick else EPOCHS
    instances = 3 if quick else instances
    name = "circles" if cost == "norm" else f"circles_{cost}"
    jobs = [Job(*table, cost, instances, epochs, device) for table in TABLES]
    jobs = [job for job in jobs if not only or job.title in only]
    jobs.sort(key=lambda job: (SETTINGS[job.name].blocks, job.batch_norm), reverse=processes > 1)
    results: dict[str, Any] = {}
    for job, found in run_in_processes(measure, jobs, processes):
        click.echo(f"{job.title}: {found['seconds'] / 60:.1f} minutes")
        results[job.title] = found
        if not quick:
            merge(name, device, results)
    console = Console(width=100)
    console.print(accuracy_table(results))
    console.print(epochs_table(results))
    console.print("Mean ± 95 % interval. Agrees: the intervals overlap.")


if __name__ == "__main__":
    main()
