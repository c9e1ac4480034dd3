"""Transport cost against accuracy over initializations, on MNIST: figure 11 of THESIS 3.2.1.

    python benchmarks/mnist_cost.py [--device cuda] [--images 1000] [--epochs 10] [--seeds 3]

ResNet-9 of THESIS 3.5.1 is trained by the cross-entropy alone, from orthogonal and from normal
initializations of several gains, and each network is a point: its test accuracy, and the mean
over the test images of C = Σ_m ‖r_m(x_m)‖². Published: a strong negative correlation, without
figures and without the regime. Here it is SGD with momentum 0.9, weight decay 1e-4, learning rate
0.01, batches of 16: with the batches of 128 of table 1, few images make so few steps that most
initializations have not been trained. Images are normalized. A run that was stopped goes on with
the missing points.
"""

import copy
import time
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from common import RESULTS
from digits import Learners, Recipe, Split, exits
from intervals import mean_of
from matplotlib import rc_context
from matplotlib.figure import Figure
from mnist import Records, as_trained, draw
from mnist_encoder import normalize
from mnist_lap import compile_network
from rich.console import Console
from rich.table import Table
from scipy import stats

from fxtransport.nets import initialize
from fxtransport.objectives import TransportCost, plain
from fxtransport.program import Program

GAINS = {"orthogonal": (0.01, 0.1, 0.5, 1.0, 2.0), "normal": (0.01, 0.05, 0.1, 0.2)}
LR, BATCH, TEST = 0.01, 16, 1000
ENERGY = TransportCost(reduction="sum")


class Fit(NamedTuple):
    """A line through accuracies, in %, and costs or their decimal logarithms."""

    slope: float
    intercept: float
    correlation: float
    p: float

    def __str__(self) -> str:
        """``0.61 -0.021 · accuracy, correlation -0.93, p = 0.001``."""
        return (
            f"{self.intercept:.4g} {self.slope:+.3g} · accuracy, "
            f"correlation {self.correlation:.2f}, p = {self.p:.2g}"
        )


def inits() -> dict[str, tuple[str, float]]:
    """The initializations, by their names in the results."""
    return {
        f"{method}, gain {gain:g}": (method, gain)
        for method, gains in GAINS.items()
        for gain in gains
    }


@torch.no_grad()
def energy_of(program: Program, split: Split) -> float:
    """The mean over images of Σ_m ‖r_m‖²."""
    costs: torch.Tensor = program.eval().whole(split.images, measure=ENERGY).costs
    return costs.sum().item()


def train(
    init: tuple[Any, float], seed: int, *, images: int, epochs: int, test: int, device: str
) -> dict[str, Any]:
    """A point: test accuracy in %, and transport cost before and after training."""
    start = time.perf_counter()
    program = copy.deepcopy(compile_network())
    torch.manual_seed(seed)  # after all that is made once and draws weights
    program = as_trained(initialize(program, *init), device)
    drawn = normalize(draw(images, test, seed, device=device))
    learners = Learners((program.whole,), plain(), Recipe(LR, BATCH), seed)
    for _ in range(epochs):
        learners.epoch(drawn.train)
    return {
        "accuracy": round(exits(learners.parts, drawn.test)[0], 2),
        "cost": float(f"{energy_of(program, drawn.test):.5g}"),
        "images": images,
        "epochs": epochs,
        "test_images": len(drawn.test.classes),
        "seconds": round(time.perf_counter() - start, 1),
    }


def fit(points: list[dict[str, Any]], *, log: bool = True) -> Fit:
    """The line of least squares, of logarithms or not."""
    costs = np.array([point["cost"] for point in points])
    accuracies = [point["accuracy"] for point in points]
    found = stats.linregress(accuracies, np.log10(costs) if log else costs)
    return Fit(found.slope, found.intercept, found.rvalue, found.pvalue)


def draw_picture(results: dict[str, Any], line: Fit, name: str) -> None:
    """The points and the line, as a picture beside the results."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for init, found in results.items():
        points = [*found.values()]
        axes.scatter([p["accuracy"] for p in points], [p["cost"] for p in points], label=init, s=18)
    every = [p["accuracy"] for found in results.values() for p in found.values()]
    ends = np.array([min(every), max(every)])
    axes.plot(ends, 10 ** (line.intercept + line.slope * ends), color="black", linewidth=1)
    axes.set(xlabel="test accuracy, %", ylabel="transport cost C", yscale="log")
    axes.legend(fontsize="x-small")
    # so that the same picture is the same file
    with rc_context({"svg.hashsalt": "fxtransport", "svg.fonttype": "none"}):
        figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})


def table_of(results: dict[str, Any]) -> Table:
    """Accuracies and costs by initialization."""
    table = Table("initialization", "networks", "test accuracy, %", "transport cost")
    for init, found in results.items():
        accuracy = mean_of([point["accuracy"] for point in found.values()])
        costs = [point["cost"] for point in found.values()]
        table.add_row(init, str(len(found)), str(accuracy), f"{np.mean(costs):.3g}")
    return table


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--images", default=1000, show_default=True)
@click.option("--epochs", default=10, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--test", default=TEST, show_default=True, help="Test images.")
@click.option("--quick", is_flag=True, help="An epoch of each; nothing is written.")
def main(device: str, images: int, epochs: int, seeds: int, test: int, quick: bool) -> None:
    """Train the points that are missing, print them, and draw the figure."""
    images, epochs, seeds, test = (100, 1, 1, 50) if quick else (images, epochs, seeds, test)
    records = Records("mnist_cost", device, keep=not quick)
    results, starts = records.read(), inits()
    for cell, seed in records.missing(starts, range(seeds)):
        found = train(starts[cell], seed, images=images, epochs=epochs, test=test, device=device)
        click.echo(f"{cell}, seed {seed}: {found['accuracy']} %, cost {found['cost']:.3g}")
        records.add(cell, seed, found)
        results.setdefault(cell, {})[str(seed)] = found
    points = [point for found in results.values() for point in found.values()]
    line = fit(points)
    console = Console(width=100)
    console.print(table_of(results))
    console.print(f"{len(points)} networks: C = {fit(points, log=False)}; log10 C = {line}")
    reduced = f"{images} training and {test} test images, {epochs} epochs"
    console.print(f"Reduced: {reduced}; published all of MNIST.")
    if not quick:
        draw_picture(results, line, f"mnist_cost.{device}")


if __name__ == "__main__":
    main()
