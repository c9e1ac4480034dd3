"""Conditional optimal transport on small residual networks: six experiments of its theory.

    python benchmarks/conditional_ot.py [--quick] [--only NAME]...

The networks are those of arXiv 2403.12887: D residual blocks of one hidden layer, in mean-field
scaling, x ← x + 1/(D·M) Σ_j u_j σ(w_j·x + b_j), M neurons each, and a fixed linear readout; the
loss is half the mean square error on N points of the sphere. The experiments:

metric        The distance on a toy of one parameter per neuron: between layers that are permuted
              within (0), between layers that are exchanged (not 0), and beside it W₂ of all
              neurons regardless of their layer.
lipschitz     The change of L over the distance of two networks, at several distances, for tanh
              and ReLU.
kernel        The condition of the kernel matrix of features, by their distribution and number.
inequality    The smallest eigenvalue of the averaged kernel, ‖∇L‖²/L, and its bound, for several
              initializations.
layerwise     Gradient descent in the layer-wise metric, in the plain one, and layer after layer:
              the loss after as many gradients, and the distance from the beginning.
scale         The loss after training, over the scale of the initialization and the number of
              features: where gradient descent converges.

About 5 minutes on one core, 1 minute with --quick.
"""

import copy
import math
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import click
import torch
from common import write
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from fxtransport import transportify
from fxtransport.ot.conditional import conditional_distance, state_distance
from fxtransport.ot.similarity import squared_distances
from fxtransport.ot.solvers import assignment
from fxtransport.ot.symmetry import hidden_layers
from fxtransport.program import Program
from fxtransport.training.monitors import DegenerateFeaturesWarning, PolyakLojasiewicz

DIMENSION, OUTPUTS = 6, 2
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "ReLU": torch.relu}

Rows = list[dict[str, Any]]


class Block(nn.Module):
    """A residual block of one hidden layer in mean-field scaling."""

    def __init__(self, width: int, depth: int, activation: str, scale: float, outer: float) -> None:
        super().__init__()
        self.inner = nn.Linear(DIMENSION, width)
        self.outer = nn.Linear(width, DIMENSION, bias=False)
        self.activation = ACTIVATIONS[activation]
        self.share = 1 / (depth * width)
        nn.init.normal_(self.inner.weight, std=scale)
        nn.init.normal_(self.inner.bias, std=scale)
        nn.init.normal_(self.outer.weight, std=outer)

    def forward(self, x: Tensor) -> Tensor:
        """x, and what the block adds."""
        features = self.activation(self.inner(x)) * self.share
        y: Tensor = x + self.outer(features)
        return y


def network(
    width: int = 32,
    depth: int = 8,
    *,
    activation: str = "tanh",
    scale: float = 1.0,
    outer: float = 0.0,
    seed: int = 0,
) -> Program:
    """Blocks with random features, and a readout that does not train."""
    torch.manual_seed(seed)
    blocks = (Block(width, depth, activation, scale, outer) for _ in range(depth))
    readout = nn.Linear(DIMENSION, OUTPUTS, bias=False).requires_grad_(False)
    return transportify(nn.Sequential(*blocks, readout), torch.zeros(2, DIMENSION), verify=False)


def points(count: int = 16, seed: int = 100) -> tuple[Tensor, Tensor]:
    """Points of the sphere, and smooth targets."""
    generator = torch.Generator().manual_seed(seed)
    x = F.normalize(torch.randn(count, DIMENSION, generator=generator))
    directions = torch.randn(DIMENSION, OUTPUTS, generator=generator)
    return x, torch.sin(2 * x @ directions) / 2


def risk(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().sum(1).mean() / 2


def metric(*, quick: bool) -> Rows:
    """One parameter per neuron: depth×width numbers."""
    torch.manual_seed(0)
    depth, width = 4, 8 if quick else 64
    layers = torch.randn(depth, width) + torch.arange(depth)[:, None]
    within = torch.stack([row[torch.randperm(width)] for row in layers])
    pairs = {
        "permuted within layers": within,
        "two layers exchanged": layers[[1, 0, 2, 3]],
        "all shifted by 0.3": layers + 0.3,
    }
    rows = []
    for name, other in pairs.items():
        own, its = layers.sort(1).values, other.sort(1).values
        by_hand = (own - its).square().mean().sqrt().item()
        found = math.sqrt(
            statistics.mean(_w2(a, b) ** 2 for a, b in zip(layers, other, strict=True))
        )
        rows.append(
            {
                "pair": name,
                "conditional": found,
                "by sorting": by_hand,
                "W2 without layers": _w2(layers.flatten(), other.flatten()),
                "L2 in place": (layers - other).square().mean().sqrt().item(),
            }
        )
    return rows


def _w2(one: Tensor, two: Tensor) -> float:
    squares = squared_distances(one[:, None].double(), two[:, None].double())
    columns = assignment(squares.numpy())
    return float(squares[range(len(columns)), columns].mean()) ** 0.5


def lipschitz(*, quick: bool) -> Rows:
    """The steepest of many pairs at each distance."""
    x, y = points()
    rows = []
    for activation in ACTIVATIONS:
        program = network(activation=activation, outer=1.0)
        layers = hidden_layers(program, x[:2])
        state = program.state_dict()
        start = risk(program(x), y).item()
        for radius in (1e-3, 1e-2, 1e-1, 1.0):
            slopes = []
            for seed in range(5 if quick else 100):
                generator = torch.Generator().manual_seed(seed)
                moved = {
                    name: tensor + radius * torch.randn(tensor.shape, generator=generator)
                    for name, tensor in state.items()
                }
                distance = state_distance(layers, state, moved).transport
                change = abs(_risk_of(program, moved, x, y) - start)
                slopes.append(change / distance)
            rows.append(
                {
                    "activation": activation,
                    "radius": radius,
                    "median slope": statistics.median(slopes),
                    "largest slope": max(slopes),
                }
            )
    return rows


def _risk_of(program: Program, state: dict[str, Tensor], x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return risk(torch.func.functional_call(program, state, (x,)), y).item()


def kernel(*, quick: bool) -> Rows:
    """The kernel of M features on N points: E over features of σ(w·x + b) σ(w·x' + b)."""
    x, _ = points(16)
    distributions = {
        "Gaussian": torch.randn,
        "sphere": lambda shape: F.normalize(torch.randn(shape), dim=1) * shape[1] ** 0.5,
        "uniform": lambda shape: (torch.rand(shape) * 2 - 1) * 3**0.5,
        "rank 2": lambda shape: torch.randn(shape[0], 2) @ torch.randn(2, shape[1]),
    }
    rows = []
    homogeneous = torch.cat([x, torch.ones(len(x), 1)], 1)
    for activation, function in ACTIVATIONS.items():
        for name, draw in distributions.items():
            for count in (8, 64, 512) if quick else (8, 16, 32, 64, 128, 512, 4096):
                torch.manual_seed(0)
                features = function(homogeneous @ draw((count, DIMENSION + 1)).T).double()
                values = torch.linalg.eigvalsh(features @ features.T / count)
                rows.append(
                    {
                        "activation": activation,
                        "distribution": name,
                        "features": count,
                        "smallest": values[0].item(),
                        "condition": (values[-1] / values[0].clamp(min=1e-16)).item(),
                    }
                )
    return rows


def inequality(*, quick: bool) -> Rows:
    """What the monitor says at initialization."""
    x, y = points()
    rows = []
    for activation in ACTIVATIONS:
        for width in (16, 64) if quick else (16, 32, 64, 128, 256):
            for scale in (0.1, 1.0, 3.0):
                for outer in (0.0, 1.0):
                    program = network(width, activation=activation, scale=scale, outer=outer)
                    monitor = PolyakLojasiewicz(x, y, loss=risk)
                    found = monitor.measure(program)
                    bound, ratio = found["pl_bound"], found["pl_ratio"]
                    assert bound is not None
                    assert ratio is not None
                    rows.append(
                        {
                            "activation": activation,
                            "width": width,
                            "scale": scale,
                            "outer": outer,
                            "smallest": found["pl_eigenvalue"],
                            "ratio": ratio,
                            "bound": bound,
                            "holds": bound <= ratio * (1 + 1e-6),
                        }
                    )
    return rows


def descend(
    program: Program, x: Tensor, y: Tensor, steps: int, rate: float, how: str = "layer-wise"
) -> list[float]:
    """Gradient descent; returns the loss at each step.

    ``layer-wise`` is the gradient in the metric of conditional OT: each neuron has the mass
    1/(D·M), so its gradient is multiplied by D·M. ``plain`` is without, at the same step in norm at
    the beginning. ``one by one`` trains one layer after the other, each for its share of the steps.
    """
    blocks = [module for module in program.modules() if isinstance(module, Block)]
    mass = 1 / blocks[0].share
    parameters = [p for p in program.parameters() if p.requires_grad]
    losses, factor = [], mass
    for step in range(steps):
        loss = risk(program(x), y)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, parameters)
        if how == "plain" and step == 0:
            norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
            factor = mass if norm == 0 else min(mass, 1 / norm)
        chosen = {id(p) for p in parameters}
        if how == "one by one":
            block = blocks[min(step * len(blocks) // steps, len(blocks) - 1)]
            chosen = {id(p) for p in block.parameters()}
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if id(parameter) in chosen:
                    parameter.sub_(rate * factor * gradient)
    return losses


def layerwise(*, quick: bool) -> Rows:
    """As many gradients for each way of descending."""
    x, y = points()
    steps = 60 if quick else 2000
    rows = []
    for seed in range(1 if quick else 5):
        for how in ("layer-wise", "plain", "one by one"):
            program = network(seed=seed)
            before = copy.deepcopy(program)
            losses = descend(program, x, y, steps, rate=0.5, how=how)
            found = conditional_distance(before, x[:2], program)
            rows.append(
                {
                    "descent": how,
                    "seed": seed,
                    "steps": steps,
                    "first loss": losses[0],
                    "last loss": losses[-1],
                    "distance": found.transport,
                    "L2 in place": found.l2,
                }
            )
    return rows


def scale(*, quick: bool) -> Rows:
    """The region of convergence."""
    x, y = points()
    steps = 60 if quick else 1500
    rows = []
    for width in (4, 64) if quick else (2, 4, 8, 16, 32, 64, 128):
        for size in (0.1, 1.0) if quick else (0.01, 0.1, 0.3, 1.0, 3.0, 10.0):
            program = network(width, scale=size)
            found = PolyakLojasiewicz(x, y, loss=risk).measure(program)
            losses = descend(program, x, y, steps, rate=0.5)
            rows.append(
                {
                    "width": width,
                    "scale": size,
                    "smallest": found["pl_eigenvalue"],
                    "first loss": losses[0],
                    "last loss": losses[-1],
                    "converged": losses[-1] < 1e-2 * losses[0],
                }
            )
    return rows


EXPERIMENTS: dict[str, Callable[..., Rows]] = {
    "metric": metric,
    "lipschitz": lipschitz,
    "kernel": kernel,
    "inequality": inequality,
    "layerwise": layerwise,
    "scale": scale,
}


def show(console: Console, name: str, rows: Rows) -> None:
    table = Table(title=name, title_justify="left", box=None)
    for title in rows[0]:
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    console.print(table)


@click.command(help=__doc__, context_settings={"max_content_width": 100})
@click.option("--quick", is_flag=True, help="Fewer seeds, widths and steps; nothing is written.")
@click.option("--only", multiple=True, type=click.Choice([*EXPERIMENTS]), help="Run only this.")
def main(quick: bool, only: tuple[str, ...]) -> None:
    console = Console(width=120)
    results: dict[str, Any] = {}
    for name in only or EXPERIMENTS:
        started = time.perf_counter()
        with warnings.catch_warnings():
            # a singular kernel is a result here, not a mistake
            warnings.simplefilter("ignore", DegenerateFeaturesWarning)
            results[name] = EXPERIMENTS[name](quick=quick)
        show(console, f"{name} ({time.perf_counter() - started:.0f} s)", results[name])
    if not quick and not only:
        path = write("conditional_ot", "cpu", {"results": results})
        console.print(f"written to {path.relative_to(path.parent.parent.parent)}")


if __name__ == "__main__":
    main()
