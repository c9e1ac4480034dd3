"""Greedy training of 20 blocks on few images of MNIST: table 25 of THESIS G.2.

    python benchmarks/mnist_trgl.py [--device cuda] [--images 150] [--epochs 300] [--seeds 10]

The network is the published one: an encoder that is not trained, 20 blocks of 32 channels, each of
them a part with a classifier. All parts train in parallel by their own loss alone (VanGL) or with
the transport cost (TRGL); end to end, all train by the last one's. The regime is that of THESIS
G.1: orthogonal initialization of gain 0.05, SGD with momentum 0.9, weight decay 1e-4, batches of
128, 300 epochs; learning rate 0.003, or 0.1 for end to end, divided by five at epochs 120, 160 and
200. What counts is the test accuracy of the last block.

Not published, and what is here instead:

- τ: 0.05 (``--tau``; with ``--choosing`` a seed of its own is tested on reserved images).
- The encoder: that of an autoencoder, as the authors' programs have one, of normalized images; or
  (``--encoder random``) of random weights, with the batch statistics of the training images.
- The classifier, "one or two linear layers" (BLOCK): one; or two with batch norm and ReLU between
  (``--classifier two``), as in the authors' program for table 1.
- "Same classifier": of the same kind in each block; or one that all share (``--heads shared``).
- The blocks: pre-activation, as in the text; or (``--block basic``) as in the authors' programs for
  other tables, where a branch ends with batch norm, so that no initialization makes it small.

Whether published accuracies are the last ones (THESIS) or the highest (BLOCK) is said differently,
so both are here, the highest among every 20th epoch. Test sets differ: 1000 images, or fewer, where
the papers have 10 000.

Networks are trained one after the other: on a CPU, convolutions of many instances under ``vmap``
take 1.4 times as long. A run that was stopped goes on with the networks that are missing.
"""

import copy
import math
import time
from functools import cache
from typing import Any, NamedTuple

import click
import torch
from digits import Learners, Recipe, SharedHead, Split, WithHead, exits
from intervals import Mean, mean_of, paired
from mnist import Drawn, Records, as_trained, draw, tested_on
from mnist_encoder import encoded, normalize, pretrained
from rich.console import Console
from rich.table import Table
from torch import nn

from fxtransport import transportify
from fxtransport.nets import Network, initialize, resnet_m
from fxtransport.objectives import trgl, vangl
from fxtransport.program import Program

VANGL, TRGL, END_TO_END = METHODS = ("VanGL", "TRGL", "end to end")
PRE_ACTIVATION, BASIC = "pre-activation", "basic"
PRETRAINED, RANDOM = "pretrained", "random"
ONE, TWO = "one", "two"
BLOCKS, CHANNELS, SIDE = 20, 32, 14
BATCH, EPOCHS, EVERY = 128, 300, 20
TEST = 1000
PUBLISHED = {
    150: (Mean(81.84, 1.22), Mean(87.48, 0.42), Mean(87.82, 0.59)),
    300: (Mean(89.81, 0.73), Mean(92.86, 0.24), Mean(92.87, 0.28)),
    600: (Mean(91.35, 0.99), Mean(95.16, 0.15), Mean(95.30, 0.17)),
    1200: (Mean(95.80, 0.12), Mean(96.58, 0.09), Mean(96.88, 0.09)),
    1500: (Mean(96.34, 0.12), Mean(96.91, 0.07), Mean(97.19, 0.08)),
}
TUNING_SEED = 1000


class Setting(NamedTuple):
    """What decides how a network is trained, apart from its seed."""

    images: int
    method: str
    tau: float = 0.0
    """Of TRGL."""
    lr: float = 0.003
    """Of the greedy methods."""
    gain: float = 0.05
    shared: bool = False
    """Whether all blocks have one classifier, or each its own."""
    layers: str = ONE
    """Of a classifier: one linear layer, or two with batch norm and ReLU between."""
    block: str = PRE_ACTIVATION
    """Or basic: batch norm after the last convolution of a branch, ReLU after the addition."""
    encoder: str = PRETRAINED
    """Or random."""
    end_to_end_lr: float = 0.1
    epochs: int = EPOCHS
    choosing: bool = False
    """Whether it is tested on the reserved images."""

    @property
    def cell(self) -> str:
        """Its name in the results."""
        what = [f"{self.images} images", self.method]
        what += [f"tau {self.tau:g}"] if self.method == TRGL else []
        what += [f"lr {self.lr:g}"] if self.method != END_TO_END else []
        what += [f"gain {self.gain:g}", self.block, f"{self.encoder} encoder"]
        linear = "linear " if self.layers == ONE else ""
        if self.method != END_TO_END:
            what += [f"shared {linear}classifier" if self.shared else f"own {linear}classifiers"]
        elif linear:
            what += ["linear classifier"]
        if self.method == END_TO_END and self.end_to_end_lr != 0.1:
            what += [f"lr {self.end_to_end_lr:g}"]
        what += [f"{self.epochs} epochs"]
        return ", ".join(what + (["reserved images"] if self.choosing else []))


@cache
def compile_blocks(block: str, layers: str) -> Program:
    """Blocks and classifier, cut into a part for each block."""
    whole = resnet_m(BLOCKS, channels=CHANNELS, pre_activation=block == PRE_ACTIVATION, init=None)
    size = (CHANNELS, SIDE, SIDE)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(size), 10))
    head = linear if layers == ONE else whole.head
    network = Network(nn.Identity(), whole.blocks, head, input_size=size, num_classes=10)
    return transportify(network, modules=BLOCKS, head="none")


def encode(drawn: Drawn, setting: Setting) -> Drawn:
    """Everything after the encoder."""
    if setting.encoder == PRETRAINED:
        return encoded(normalize(drawn), pretrained())
    return encode_by_random(drawn, setting.gain)


def encode_by_random(drawn: Drawn, gain: float) -> Drawn:
    """Everything after an encoder of random weights, with the training images' statistics."""
    encoder = initialize(resnet_m(1, channels=CHANNELS, init=None).encoder, "orthogonal", gain)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # so that one batch gives its own statistics
    encoder.to(drawn.train.images.device)
    with torch.no_grad():
        encoder.train()(drawn.train.images)
    return encoded(drawn, encoder.eval())


def parts_of(program: Program, shared: bool) -> list[WithHead]:
    """The parts, each with a classifier."""
    # the last part runs the network's own head itself
    *parts, last = program.parts
    head = program.get_submodule("head")
    heads = (head if shared else copy.deepcopy(head) for _ in parts)
    return [*map(SharedHead, parts, heads), last]


class Decaying(Learners):
    """Divides the learning rate by five at epochs 120, 160 and 200."""

    def epoch(self, split: Split) -> None:
        """Train on all images once."""
        self.done = getattr(self, "done", 0) + 1
        if self.done in (120, 160, 200):
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] /= 5
        super().epoch(split)


def learners_of(program: Program, setting: Setting, seed: int) -> Learners:
    """What trains by the method."""
    if setting.method == END_TO_END:
        return Decaying((program.whole,), vangl(), Recipe(setting.end_to_end_lr, BATCH), seed)
    objective = vangl() if setting.method == VANGL else trgl(setting.tau)
    parts = parts_of(program, setting.shared)
    return Learners(parts, objective, Recipe(setting.lr, BATCH), seed)


def train(setting: Setting, seed: int, test: int, device: str) -> dict[str, Any]:
    """The accuracies of all exits after the last epoch, and the last exit's along the way."""
    start = time.perf_counter()
    program = copy.deepcopy(compile_blocks(setting.block, setting.layers))
    torch.manual_seed(seed)  # after all that is made once and draws weights
    initialize(program, "orthogonal", setting.gain)
    drawn = draw(setting.images, test, seed, choosing=setting.choosing, device=device)
    drawn = encode(drawn, setting)
    learners = learners_of(as_trained(program, device), setting, seed)
    curve = []
    for epoch in range(1, setting.epochs + 1):
        learners.epoch(drawn.train)
        if epoch % EVERY == 0 or epoch == setting.epochs:
            curve.append(exits(learners.parts, drawn.test))
    return {
        "exits": [round(accuracy, 2) for accuracy in curve[-1]],
        "last_exit_by_epoch": [round(accuracies[-1], 2) for accuracies in curve],
        "test_images": len(drawn.test.classes),
        "seconds": round(time.perf_counter() - start),
    }


def values(found: dict[str, Any], seeds: list[str], highest: bool) -> list[float]:
    """The last exit's accuracies of some seeds."""
    of_seeds = [found[seed]["last_exit_by_epoch"] for seed in seeds]
    return [max(curve) if highest else curve[-1] for curve in of_seeds]


def table_of(results: dict[str, Any], settings: list[Setting]) -> Table:
    """Last exits beside the published ones, and paired differences from VanGL."""
    columns = ("images", "method", "networks", "last, %", "highest, %", "published, %")
    table = Table(*columns, "last, − VanGL", "published", title="test accuracy of the last block")
    for setting in settings:
        found = results.get(setting.cell)
        if not found:
            continue
        seeds, vanilla = [*found], results.get(setting._replace(method=VANGL).cell, {})
        common = [seed for seed in seeds if seed in vanilla]
        there = PUBLISHED[setting.images]
        column = METHODS.index(setting.method)
        difference = published = ""
        if column and common:
            pairs = (values(results_of, common, highest=False) for results_of in (found, vanilla))
            gain = paired(*pairs)
            difference = f"{gain.mean:+.1f} ± {gain.half:.1f}"
            published = f"{there[column].mean - there[0].mean:+.1f}"
        last, highest = (mean_of(values(found, seeds, highest=best)) for best in (False, True))
        row = (str(setting.images), setting.cell.split(", ", 1)[1], str(len(seeds)))
        table.add_row(*row, str(last), str(highest), str(there[column]), difference, published)
    return table


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--images", "sizes", multiple=True, type=click.Choice([*PUBLISHED]), default=[150])
@click.option("--method", "methods", multiple=True, type=click.Choice(METHODS), default=METHODS)
@click.option("--tau", "taus", multiple=True, default=[0.05], show_default=True)
@click.option("--lr", default=0.003, show_default=True)
@click.option("--end-to-end-lr", default=0.1, show_default=True)
@click.option("--gain", default=0.05, show_default=True)
@click.option("--heads", default="own", type=click.Choice(["shared", "own"]))
@click.option("--classifier", default=ONE, type=click.Choice([ONE, TWO]), help="Linear layers.")
@click.option("--block", default=PRE_ACTIVATION, type=click.Choice([PRE_ACTIVATION, BASIC]))
@click.option("--encoder", default=PRETRAINED, type=click.Choice([PRETRAINED, RANDOM]))
@click.option("--epochs", default=EPOCHS, show_default=True)
@click.option("--seeds", default=10, show_default=True)
@click.option("--test", default=TEST, show_default=True, help="Test images.")
@click.option("--choosing", is_flag=True, help="A seed of its own, tested on reserved images.")
@click.option("--quick", is_flag=True, help="An epoch of two networks; nothing is written.")
def main(
    device: str,
    sizes: tuple[int, ...],
    methods: tuple[str, ...],
    taus: tuple[float, ...],
    lr: float,
    end_to_end_lr: float,
    gain: float,
    heads: str,
    classifier: str,
    block: str,
    encoder: str,
    epochs: int,
    seeds: int,
    test: int,
    choosing: bool,
    quick: bool,
) -> None:
    """Train what is missing of the table, and print it."""
    epochs, seeds, test = (1, 2, 50) if quick else (epochs, seeds, test)
    like = {
        "lr": lr,
        "end_to_end_lr": end_to_end_lr,
        "gain": gain,
        "shared": heads == "shared",
        "block": block,
    }
    like |= {"encoder": encoder, "layers": classifier, "epochs": epochs}
    settings = [
        Setting(images, method, tau, choosing=choosing, **like)
        for images in sizes
        for method in methods
        for tau in (taus if method == TRGL else (0.0,))
    ]
    records = Records("mnist_trgl", device, keep=not quick)
    by_cell = {setting.cell: setting for setting in settings}
    first = TUNING_SEED if choosing else 0
    results = records.read()
    for cell, seed in records.missing(by_cell, range(first, first + (1 if choosing else seeds))):
        found = train(by_cell[cell], seed, test, device)
        click.echo(f"{cell}, seed {seed}: {found['exits'][-1]} in {found['seconds']} s")
        records.add(cell, seed, found)
        results.setdefault(cell, {})[str(seed)] = found
    console = Console(width=150)
    console.print(table_of(results, settings))
    console.print(f"{tested_on(results)} test images, published 10 000; mean ± 95 % interval.")


if __name__ == "__main__":
    main()
