"""LAP against vanilla training on few images of MNIST: table 1 of THESIS 3.5.1.

    python benchmarks/mnist_lap.py [--device cuda] [--images 100] [--encoder norms] [--seeds 20]

Network and regime are the published ones (THESIS 3.5.1, F.1): the single-representation ResNet-9
with 32 channels, orthogonal initialization of gain 0.01, SGD with momentum 0.9, weight decay 1e-4,
learning rate 0.01, batches of 128, 30 epochs, of which the highest test accuracy counts; LAP has
λ0 = 5, τ = 1, s = 5. Each seed has its own initialization, training and test images, which all
methods share. Test sets differ: a few hundred images for each seed where the papers have 10 000.

The text and the program that the authors released minimize L + C/λ. Names and messages in the
program (a factor of the loss; that of the cost "is fixed to 1") remain from λL + C, which has the
same gradient up to a factor of λ, from 5 up: larger steps for SGD. Both are here, and so is vanilla
training with the larger steps alone.

Whether the encoder is trained is not published for this table; see ``ENCODERS``. With that of an
autoencoder, frozen, vanilla networks of 100 images are nearest to the published ones.

Networks are trained one after the other: on a CPU, convolutions of many instances under ``vmap``
take 1.4 times as long. A run that was stopped goes on with the networks that are missing.
"""

import copy
import itertools
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import click
import torch
from digits import Learners, Recipe, exits
from intervals import Mean, mean_of, paired
from mnist import Drawn, Records, as_trained, draw, tested_on
from mnist_encoder import encoded, normalize, pretrained
from rich.console import Console
from rich.table import Table
from torch import nn

from fxtransport import transportify
from fxtransport.nets import Network, initialize, resnet_m
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
    "LAP, L + C/λ": Method(lambda: lap(5, 1, 5), column=1),
    "LAP, λL + C": Method(lambda: trgl_multipliers(5, 1, 5), column=1),
    "vanilla, lr 0.05": Method(plain, 0.05),
    "vanilla, lr 0.1": Method(plain, 0.1),
    "LAP, L + C/λ, sum": Method(lambda: lap(5, 1, 5, cost=SUM), column=1),
    "LAP, λL + C, sum": Method(lambda: trgl_multipliers(5, 1, 5, cost=SUM), column=1),
}
"""``sum``: C adds up r² over channels and positions, as in the text; else it is their mean."""


class Encoder(NamedTuple):
    """What the blocks start from."""

    norm: bool = True
    """Batch norm after each convolution; otherwise they have biases."""
    frozen: bool = False
    """It is the encoder of an autoencoder, and is not trained."""
    normalized: bool = True
    """Whether its images have mean 0 and standard deviation 1, or values from 0 to 1."""


PRETRAINED, NORMS = "pretrained", Encoder()
ENCODERS = {
    PRETRAINED: Encoder(norm=False, frozen=True),
    "norms": NORMS,
    "norms, 0 to 1": Encoder(normalized=False),
    "biases": Encoder(norm=False),
}


@cache
def compile_network(encoder: Encoder = NORMS) -> Program:
    """The network; only what follows the encoder if that is frozen."""
    network = resnet_m(encoder_norm=encoder.norm, init=None)
    if not encoder.frozen:
        return transportify(network)
    size = (32, 14, 14)
    parts = (nn.Identity(), network.blocks, network.head)
    return transportify(Network(*parts, input_size=size, num_classes=10))


def prepare(drawn: Drawn, encoder: Encoder) -> Drawn:
    """What the network of an encoder is given."""
    drawn = normalize(drawn) if encoder.normalized else drawn
    return encoded(drawn, pretrained()) if encoder.frozen else drawn


class Job(NamedTuple):
    """What decides how a network is trained, apart from its seed."""

    images: int
    encoder: str
    method: str

    @property
    def cell(self) -> str:
        """Its name in the results."""
        return f"{self.images} images, {self.encoder}, {self.method}"


def train(job: Job, seed: int, *, epochs: int, test: int, device: str) -> dict[str, Any]:
    """The highest test accuracy of all epochs in %, and the last."""
    start = time.perf_counter()
    encoder, method = ENCODERS[job.encoder], METHODS[job.method]
    program = copy.deepcopy(compile_network(encoder))
    torch.manual_seed(seed)  # after all that is made once and draws weights
    initialize(program, "orthogonal", GAIN)
    drawn = prepare(draw(job.images, test, seed, device=device), encoder)
    parts = (as_trained(program, device).whole,)
    learners = Learners(parts, method.objective().to(device), Recipe(method.lr, BATCH), seed)
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


def table_of(results: dict[str, Any], encoder: str) -> Table:
    """Accuracies and paired differences beside the published ones."""
    columns = ("images", "method", "networks", "here, %", "published, %", "", "− vanilla")
    table = Table(*columns, "published", title=f"highest test accuracy, encoder: {encoder}")
    for images in PUBLISHED:
        vanilla = results.get(Job(images, encoder, VANILLA).cell, {})
        for name in METHODS:
            found = results.get(Job(images, encoder, name).cell)
            if found:
                table.add_row(str(images), name, *cells_of(images, name, found, vanilla))
        table.add_section()
    return table


def cells_of(images: int, name: str, found: dict[str, Any], vanilla: dict[str, Any]) -> list[str]:
    """Networks, accuracy, the published one, whether they agree; and both differences."""
    column = METHODS[name].column
    here = mean_of([one["highest"] for one in found.values()])
    there = None if column is None else PUBLISHED[images][column]
    cells = [str(len(found)), str(here)]
    cells += ["", ""] if there is None else [str(there), here.against(there)]
    common = [seed for seed in found if seed in vanilla]
    if name == VANILLA or not common:
        return cells
    gain = paired(*([of[seed]["highest"] for seed in common] for of in (found, vanilla)))
    base, least_action = PUBLISHED[images]
    published = f"{least_action.mean - base.mean:+.1f}" if column else ""
    return [*cells, f"{gain.mean:+.1f} ± {gain.half:.1f}", published]


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--images", "sizes", multiple=True, type=click.Choice([*PUBLISHED]), default=[100])
@click.option(
    "--encoder", "encoders", multiple=True, type=click.Choice([*ENCODERS]), default=[PRETRAINED]
)
@click.option(
    "--method", "methods", multiple=True, type=click.Choice([*METHODS]), default=[*METHODS][:4]
)
@click.option("--seeds", default=20, show_default=True)
@click.option("--test", default=TEST, show_default=True, help="Test images.")
@click.option("--quick", is_flag=True, help="An epoch of two networks; nothing is written.")
def main(
    device: str,
    sizes: tuple[int, ...],
    encoders: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: int,
    test: int,
    quick: bool,
) -> None:
    """Train what is missing of the table, and print it."""
    epochs, seeds, test = (1, 2, 50) if quick else (EPOCHS, seeds, test)
    jobs = [Job(*job) for job in itertools.product(sizes, encoders, methods)]
    by_cell = {job.cell: job for job in jobs}
    records = Records("mnist_lap", device, keep=not quick)
    results = records.read()
    for cell, seed in records.missing(by_cell, range(seeds)):
        found = train(by_cell[cell], seed, epochs=epochs, test=test, device=device)
        click.echo(f"{cell}, seed {seed}: {found['highest']} in {found['seconds']} s")
        records.add(cell, seed, found)
        results.setdefault(cell, {})[str(seed)] = found
    console = Console(width=130)
    for encoder in encoders:
        console.print(table_of(results, encoder))
    console.print(f"{tested_on(results)} test images, published 10 000; mean ± 95 % interval.")


if __name__ == "__main__":
    main()
