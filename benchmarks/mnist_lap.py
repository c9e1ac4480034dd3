"""LAP against vanilla training on few images of MNIST: table 1 of THESIS 3.5.1.

    python benchmarks/mnist_lap.py [--device cuda] [--images 100] [--seeds 20]

Network and regime are the published ones (THESIS 3.5.1, F.1): the single-representation ResNet-9
with 32 channels, orthogonal initialization of gain 0.01, SGD with momentum 0.9, weight decay 1e-4,
learning rate 0.01, batches of 128, 30 epochs, of which the highest test accuracy counts; LAP has
λ0 = 5, τ = 1, s = 5. Each seed has its own initialization, training and test images, which all
methods share. Test sets differ: a few hundred images for each seed where the papers have 10 000.

The text minimizes L + C/λ. The program that the authors released then minimizes λL + C, which has
the same gradient up to a factor of λ, from 5 up: larger steps for SGD. Both are here, and so is
vanilla training with the larger steps alone.

Networks are trained one after the other: on a CPU, convolutions of many instances under ``vmap``
take 1.4 times as long. A run that was stopped goes on with the networks that are missing.
"""

import copy
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import click
import torch
from digits import Learners, Recipe, exits
from intervals import Mean, mean_of, paired
from mnist import Records, as_trained, draw, tested_on
from rich.console import Console
from rich.table import Table

from fxtransport import transportify
from fxtransport.nets import initialize, resnet_m
from fxtransport.objectives import Objective, TransportCost, lap, plain, trgl_multipliers
from fxtransport.program import Program

GAIN, BATCH, EPOCHS, TEST = 0.01, 128, 30, 500
PUBLISHED = {
    100: (Mean(56.4, 1.5), Mean(70.0, 1.0)),
    200: (Mean(74.9, 1.0), Mean(82.0, 0.5)),
    300: (Mean(83.5, 0.5), Mean(86.2, 0.4)),
    400: (Mean(88.4, 0.5), Mean(88.4, 0.4)),
    500: (Mean(90.8, 0.4), Mean(90.9, 0.2)),
}
"""Vanilla and LAP, by training images."""


class Method(NamedTuple):
    """An objective, its learning rate, and which published column is like it."""

    objective: Callable[[], Objective]
    lr: float = 0.01
    column: int | None = None


VANILLA = "vanilla"
SUM = TransportCost(reduction="sum")
METHODS = {
    VANILLA: Method(plain, column=0),
    "LAP, L + C/λ": Method(lambda: lap(5, 1, 5, order="text"), column=1),
    "LAP, λL + C": Method(lambda: trgl_multipliers(5, 1, 5, order="text"), column=1),
    "vanilla, lr 0.05": Method(plain, 0.05),
    "vanilla, lr 0.1": Method(plain, 0.1),
    "LAP, L + C/λ, sum": Method(lambda: lap(5, 1, 5, order="text", cost=SUM), column=1),
    "LAP, λL + C, sum": Method(lambda: trgl_multipliers(5, 1, 5, order="text", cost=SUM), column=1),
}
"""``sum``: C adds up r² over channels and positions, as in the text; else it is their mean."""


@cache
def compile_network() -> Program:
    """The network."""
    return transportify(resnet_m(init=None))


def cell_of(images: int, method: str) -> str:
    """Its name in the results."""
    return f"{images} images, {method}"


def train(
    images: int, method: str, seed: int, *, epochs: int, test: int, device: str
) -> dict[str, Any]:
    """The highest test accuracy of all epochs in %, and the last."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    program = initialize(copy.deepcopy(compile_network()), "orthogonal", GAIN)
    drawn = draw(images, test, seed, device=device)
    made = METHODS[method]
    parts = (as_trained(program, device).whole,)
    learners = Learners(parts, made.objective().to(device), Recipe(made.lr, BATCH), seed)
    curve = []
    for _ in range(epochs):
        learners.epoch(drawn.train)
        curve += exits(parts, drawn.test)
    return {
        "highest": round(max(curve), 2),
        "last": round(curve[-1], 2),
        "epochs": epochs,
        "test_images": len(drawn.test.classes),
        "seconds": round(time.perf_counter() - start, 1),
    }


def table_of(results: dict[str, Any], sizes: tuple[int, ...]) -> Table:
    """Accuracies and paired differences beside the published ones."""
    columns = ("images", "method", "networks", "here, %", "published, %", "", "− vanilla")
    table = Table(*columns, "published", title="highest test accuracy")
    for images in sizes:
        vanilla = results.get(cell_of(images, VANILLA), {})
        for name, method in METHODS.items():
            found = results.get(cell_of(images, name))
            if not found:
                continue
            here = mean_of([one["highest"] for one in found.values()])
            row = [str(images), name, str(len(found)), str(here)]
            there = None if method.column is None else PUBLISHED[images][method.column]
            row += ["", ""] if there is None else [str(there), here.against(there)]
            common = [seed for seed in found if seed in vanilla]
            if name != VANILLA and common:
                pairs = ([of[seed]["highest"] for seed in common] for of in (found, vanilla))
                gain = paired(*pairs)
                row.append(f"{gain.mean:+.1f} ± {gain.half:.1f}")
            if method.column:
                base, least_action = PUBLISHED[images]
                row.append(f"{least_action.mean - base.mean:+.1f}")
            table.add_row(*row)
        table.add_section()
    return table


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--images", "sizes", multiple=True, type=click.Choice([*PUBLISHED]), default=[100])
@click.option(
    "--method", "methods", multiple=True, type=click.Choice([*METHODS]), default=[*METHODS][:4]
)
@click.option("--seeds", default=20, show_default=True)
@click.option("--test", default=TEST, show_default=True, help="Test images.")
@click.option("--quick", is_flag=True, help="An epoch of two networks; nothing is written.")
def main(
    device: str,
    sizes: tuple[int, ...],
    methods: tuple[str, ...],
    seeds: int,
    test: int,
    quick: bool,
) -> None:
    """Train what is missing of the table, and print it."""
    epochs, seeds, test = (1, 2, 50) if quick else (EPOCHS, seeds, test)
    jobs = {cell_of(images, method): (images, method) for images in sizes for method in methods}
    records = Records("mnist_lap", device, keep=not quick)
    results = records.read()
    for cell, seed in records.missing(jobs, range(seeds)):
        found = train(*jobs[cell], seed, epochs=epochs, test=test, device=device)
        click.echo(f"{cell}, seed {seed}: {found['highest']} in {found['seconds']} s")
        records.add(cell, seed, found)
        results.setdefault(cell, {})[str(seed)] = found
    console = Console(width=130)
    console.print(table_of(results, tuple(PUBLISHED)))
    console.print(f"{tested_on(results)} test images, published 10 000; mean ± 95 % interval.")


if __name__ == "__main__":
    main()
