"""The time of Ω_P: over the obvious way to compute it, and as a share of a training step.

First the regularizer alone, forward and backward, against ``ot.emd2(torch.cdist(A, T))``, on
activations of 64 samples: of two networks whose weights differ by 1 % (fine-tuning), of two
unrelated ones, and of two widths. Activations are those of a layer of ReLUs on 24 latent
features. Both costs are compared with that of an exact plan in float64.

Then a whole step of a ResNet-18 and of a ResNet-50, batch 64, that fine-tunes with Ω_P on the
penultimate features, over one with L2-SP. The teacher's features are given, as they are from a
cache; the step that computes them is shown apart.

In every round each method makes one step, in a random order, so that a busy machine slows all of
them, and ratios are taken round by round. On the CPU they are of processor time.

    python benchmarks/ot_step.py [--device cuda] [--only alone] [--quick]
"""

import copy
import random
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import click
import numpy as np
import ot as pot
import timm
import torch
from common import merge, spread
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from fxtransport import ot
from fxtransport.training import keep_freed_memory

SAMPLES, LATENT, CHANGE = 64, 24, 0.01
LIMIT = 10_000_000
"""Iterations of POT's solver, whose default ends before 2048×2048 is solved."""


class Case(NamedTuple):
    """Two layers, and how many times faster Ω_P must be on them."""

    sort: str
    student: int
    teacher: int
    target: float

    @property
    def name(self) -> str:
        """As it is shown: ``unrelated 512×2048``."""
        return f"{self.sort} {self.student}×{self.teacher}"


CASES = (
    *(Case("fine-tuning", d, d, 5.0) for d in (512, 1024, 2048)),
    *(Case("unrelated", d, d, 5.0) for d in (512, 1024, 2048)),
    *(Case("widths", d, e, 3.5) for d, e in ((512, 1024), (512, 2048), (1280, 2048), (2048, 512))),
)
NETWORKS = ("resnet18", "resnet50")
ADDED, PUBLISHED = 1.15, 2.7
"""How many times a step with L2-SP one with Ω_P may take, and takes as published (OT, 6)."""


class Clock:
    """Processor time on the CPU, and wall time until a GPU is done."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"

    def __call__(self, run: Callable[[], object]) -> float:
        """The seconds that a call takes."""
        read = time.perf_counter if self.on_gpu else time.process_time
        start = read()
        run()
        if self.on_gpu:
            torch.cuda.synchronize()
        return read() - start


def in_turn(
    methods: dict[str, Callable[[], object]], rounds: int, clock: Clock
) -> dict[str, list[float]]:
    """The times of all methods, round by round; two more rounds come first and do not count."""
    order = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in methods}
    for count in range(-2, rounds):
        for name in order.sample(list(methods), len(methods)):
            seconds = clock(methods[name])
            if count >= 0:
                times[name].append(seconds)
    return times


def activations(case: Case, device: str) -> tuple[Tensor, Tensor]:
    """Of a student and of a teacher, neurons × samples."""
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(LATENT, SAMPLES, generator=generator) / LATENT**0.5
    weights = torch.randn(case.student, LATENT, generator=generator)
    others = torch.randn(case.teacher, LATENT, generator=generator)
    if case.sort == "fine-tuning":
        others = weights * (1 + CHANGE * others)
    return (weights @ latent).relu().to(device), (others @ latent).relu().to(device)


def obvious(student: Tensor, teacher: Tensor) -> Tensor:
    """Ω_P by POT and a matrix of distances with gradient."""
    a, b = (torch.full((len(side),), 1 / len(side)).to(side) for side in (student, teacher))
    cost: Tensor = pot.emd2(a, b, torch.cdist(student, teacher), numItermax=LIMIT)
    return cost


def exact_cost(student: Tensor, teacher: Tensor) -> float:
    """In float64, without a matrix product."""
    pair = student.double().cpu(), teacher.double().cpu()
    costs = torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    a, b = (np.full(len(side), 1 / len(side)) for side in (student, teacher))
    return float(pot.emd2(a, b, costs, numItermax=LIMIT))


def measure_case(case: Case, rounds: int, device: str) -> dict[str, Any]:
    """Times and errors of both ways on two layers."""
    student, teacher = activations(case, device)
    exact, found = exact_cost(student, teacher), {}

    def step(way: Callable[[Tensor, Tensor], Tensor], name: str) -> None:
        leaf = student.clone().requires_grad_()
        cost = way(leaf, teacher)
        cost.backward()
        found[name] = float(cost.detach())

    methods = {
        "omega": lambda: step(ot.omega, "omega"),
        "obvious": lambda: step(obvious, "obvious"),
    }
    times = in_turn(methods, rounds, Clock(device))
    errors = {name: abs(value / exact - 1) for name, value in found.items()}
    ratios = [a / b for a, b in zip(times["obvious"], times["omega"], strict=True)]
    median = statistics.median(ratios)
    return {**case._asdict(), "median": median, "ratios": ratios, "errors": errors, "times": times}


class FineTuning:
    """A network, where it started, and what its teacher says of a batch."""

    def __init__(self, name: str, size: int, device: str) -> None:
        torch.manual_seed(0)
        self.teacher = timm.create_model(name, num_classes=10).to(device).eval()
        self.student = copy.deepcopy(self.teacher).train()
        with torch.no_grad():
            for weights in self.student.parameters():
                weights.mul_(1 + CHANGE * torch.randn_like(weights))
        self.start = [weights.detach().clone() for weights in self.teacher.parameters()]
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=1e-4, momentum=0.9)
        self.images = torch.randn(SAMPLES, 3, size, size, device=device)
        self.targets = torch.randint(10, (SAMPLES,), device=device)
        self.cached = self.teach()

    @staticmethod
    def features(network: nn.Module, images: Tensor) -> Tensor:
        """What enters the classifier, B×d."""
        maps = network.forward_features(images)  # type: ignore[operator]
        pooled: Tensor = network.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        return pooled

    @torch.no_grad()
    def teach(self) -> Tensor:
        """The teacher's features, d×B."""
        return self.features(self.teacher, self.images).T.contiguous()

    def step(self, regularizer: Callable[[Tensor], Tensor]) -> None:
        """A step with a regularizer, which is given the student's features."""
        self.optimizer.zero_grad()
        features = self.features(self.student, self.images)
        logits = self.student.get_classifier()(features)
        (F.cross_entropy(logits, self.targets) + 1e-2 * regularizer(features)).backward()
        self.optimizer.step()

    def l2sp(self, _: Tensor) -> Tensor:
        """Half the squared distance from the start."""
        pairs = zip(self.student.parameters(), self.start, strict=True)
        return 0.5 * torch.stack([(w - start).square().sum() for w, start in pairs]).sum()


def measure_network(name: str, size: int, rounds: int, device: str) -> dict[str, Any]:
    """Times of whole steps of one network, and their ratios."""
    run = FineTuning(name, size, device)
    methods = {
        "none": lambda: run.step(lambda features: features.new_zeros(())),
        "l2-sp": lambda: run.step(run.l2sp),
        "omega": lambda: run.step(lambda features: ot.omega(features.T, run.cached)),
        "omega and teacher": lambda: run.step(lambda features: ot.omega(features.T, run.teach())),
    }
    times = in_turn(methods, rounds, Clock(device))
    ratios = {
        method: [a / b for a, b in zip(times[method], times["l2-sp"], strict=True)]
        for method in methods
        if method != "l2-sp"
    }
    return {"network": name, "size": size, "ratios": ratios, "times": times}


def show_cases(console: Console, results: list[dict[str, Any]]) -> None:
    """Print how many times faster Ω_P is."""
    columns = ("obvious over Ω_P", "target", "met", "Ω_P, ms", "error", "error of the obvious")
    table = Table("d × d'", *columns, title=f"Ω_P, forward and backward, {SAMPLES} samples")
    for result in results:
        case = Case(*(result[field] for field in Case._fields))
        fast = result["median"] >= case.target
        exact = result["errors"]["omega"] <= 1e-6
        milliseconds = spread([1000 * t for t in result["times"]["omega"]])
        errors = (f"{result['errors'][name]:.0e}" for name in ("omega", "obvious"))
        judged = (f"≥ {case.target}", "✓" if fast and exact else "✗")
        table.add_row(case.name, spread(result["ratios"]), *judged, milliseconds, *errors)
    console.print(table)


def show_networks(console: Console, results: list[dict[str, Any]]) -> None:
    """Print what a step with Ω_P takes over one with L2-SP."""
    columns = ("Ω_P", "target", "met", "published", "with the teacher's forward", "neither")
    table = Table("", *columns, title=f"A training step over one with L2-SP, batch {SAMPLES}")
    for result in results:
        ratios = result["ratios"]
        met = "✓" if statistics.median(ratios["omega"]) <= ADDED else "✗"
        row = (spread(ratios["omega"]), f"≤ {ADDED}", met, str(PUBLISHED))
        others = (spread(ratios["omega and teacher"]), spread(ratios["none"]))
        table.add_row(f"{result['network']}, {result['size']} px", *row, *others)
    console.print(table)


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--rounds", default=15, show_default=True, help="Of the regularizer alone.")
@click.option("--steps", default=7, show_default=True, help="Rounds of whole training steps.")
@click.option("--size", default=224, show_default=True, help="Height and width of images.")
@click.option("--threads", default=1, show_default=True, help="Processor threads.")
@click.option("--only", type=click.Choice(["alone", "steps"]), help="Keep the other's results.")
@click.option("--quick", is_flag=True, help="The small cases, 64 px, 3 rounds; nothing is written.")
def main(
    device: str, rounds: int, steps: int, size: int, threads: int, only: str | None, quick: bool
) -> None:
    """Measure, print and write what Ω_P takes."""
    torch.set_num_threads(threads)
    if device == "cpu" and not keep_freed_memory():
        raise click.ClickException("freed memory cannot be kept: see keep_freed_memory")
    console = Console(width=140)
    cases = [case for case in CASES if not quick or max(case[1:3]) <= 1024]
    rounds, steps, size = (3, 3, 64) if quick else (rounds, steps, size)
    results: dict[str, Any] = {}
    if only != "steps":
        results["alone"] = [measure_case(case, rounds, device) for case in cases]
        show_cases(console, results["alone"])
    if only != "alone":
        networks = NETWORKS[:1] if quick else NETWORKS
        results["steps"] = [measure_network(name, size, steps, device) for name in networks]
        show_networks(console, results["steps"])
    console.print("solvers:", ", ".join(ot.choices()), "; warned of:", ot.counts())
    if not quick:
        results["solvers"] = {name: version(name) for name in ("pot", "lapx", "scipy", "numpy")}
        path = merge("ot_step", device, results)
        click.echo(f"written to {path.relative_to(path.parent.parent.parent)}")


if __name__ == "__main__":
    main()
