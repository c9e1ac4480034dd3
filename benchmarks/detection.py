"""Which detector finds attacks: ResNets trained plain, by LAP and by RCE, on three sets of images.

    python benchmarks/detection.py [--data digits] [--network VAN] [--seeds 5] [--quick]

A ResNet-9 of 16 channels is trained on each set. Of the images that it was not trained on, 300 of
digits, or 200 of MNIST and of photographs, are attacked by each of twelve attacks. Detectors are
fitted on 70 % of them (B1, of which a fifth chooses the threshold) and tested on the rest (B2).
Counted as attacked is what was classified correctly, changed, and fools the network; the success
rate stands beside every figure. The published tables count every image (``--count-all``), and have
90 % and 10 % of 10 000 images.

Iterations: PGD 40, BIM 10, APGD, DeepFool, FMN and DDN 100, CW 4 × 50 from a weight of 1,
AutoAttack 30 with 300 queries of Square, Square 1000 queries, HopSkipJump 10 with 30 evaluations
at first, Boundary 500.
ε is 0.1 on digits and MNIST, where 0.03 fools almost nothing, and 0.03 on photographs.

Four detectors are also attacked themselves, by HopSkipJump on decisions, by features that they do
not detect, and by gradients.

A cell is a network with an attack, or with a detector under all protocols. Each is a line of JSON
in the file of results as soon as it is done; those that are there are not run again. ``--tables``
prints what is there. Tables of all cells are written to ``benchmarks/results/``.
"""

import fcntl
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
from common import RESULTS
from detection_adaptive import ATTACKED, evasions
from detection_nets import DATA, TRAINED, Net, Pixels, other_images, pixels, trained
from detection_tables import make_report, read_cells
from rich.console import Console
from workers import run_in_processes

from fxtransport.detection import Extractor, Observations
from fxtransport.detection.attacks import ATTACKS, PixelModel, attack_images, make_attack
from fxtransport.detection.bench import Bench
from fxtransport.detection.head import Head
from fxtransport.detection.laplacian import laplacian
from fxtransport.detection.metrics import metrics
from fxtransport.detection.nss import nss
from fxtransport.detection.observed_attack import ObservedAttack
from fxtransport.detection.protocols import (
    clean_only,
    out_of_distribution,
    seen,
    unseen,
    worst_case,
)
from fxtransport.detection.registry import detector_class, detector_names, make_detector
from fxtransport.detection.results import Row
from fxtransport.detection.thresholds import choose_threshold
from fxtransport.errors import UsageError

TEST = 0.3
BUDGETS: dict[str, dict[str, float]] = {
    "cw": {"search_steps": 4, "steps": 50, "first_weight": 1.0},
    "autoattack": {"steps": 30, "queries": 300},
    "square": {"queries": 1000},
    "hsj": {"steps": 10, "evaluations": 30},
    "boundary": {"steps": 500},
}
QUICK: dict[str, dict[str, float]] = {
    "cw": {"search_steps": 5, "steps": 40, "first_weight": 1.0},
    "autoattack": {"steps": 3, "queries": 10},
    "square": {"queries": 30},
    "hsj": {"steps": 2, "evaluations": 10},
    "boundary": {"steps": 30},
}
BOUNDED = ("fgm", "bim", "pgd", "apgd", "autoattack", "square")
FITTED_ON = "fgm"
OOD_ATTACK = "cw"
OBSERVED = ("transport", "logits", "penultimate", "layer", "laplacian", "nss")
FURTHER = {"laplacian": laplacian, "nss": nss}


class Job(NamedTuple):
    """A cell to compute."""

    data: str
    how: str
    seed: int
    kind: str
    """``attack``, ``detector`` or ``adaptive``."""
    name: str
    images: int | None
    epochs: int | None
    quick: bool
    count_all: bool
    folder: str

    @property
    def count(self) -> int:
        """How many images are attacked."""
        return self.images or DATA[self.data].images

    @property
    def key(self) -> str:
        """What names the cell in the file of results."""
        counted = "all" if self.count_all else "successful"
        size = f"{self.count} images, {self.epochs or DATA[self.data].epochs} epochs"
        budget = "quick" if self.quick else "full"
        where = f"{self.data}/{self.how}/{self.seed}"
        return f"{where}/{self.kind}/{self.name}/{size}/{budget}/{counted}"


def usable_detectors() -> list[str]:
    """The names of detectors that need nothing but what is observed here."""
    return [name for name in detector_names() if set(detector_class(name).reads) <= {*OBSERVED}]


@cache
def net_of(data: str, how: str, seed: int, folder: str, epochs: int | None) -> Net:
    """The network of a cell."""
    return trained(data, how, seed, Path(folder) / "nets", epochs)


def images_of(job: Job) -> Pixels:
    """The images that are attacked: some that the network was not trained on."""
    _, rest = pixels(job.data, job.seed)
    order = torch.randperm(len(rest.labels), generator=torch.Generator().manual_seed(job.seed))
    chosen = order[: job.count]
    return Pixels(rest.images[chosen], rest.labels[chosen])


def budget(job: Job, attack: str) -> dict[str, Any]:
    """The settings of an attack."""
    settings: dict[str, Any] = dict((QUICK if job.quick else BUDGETS).get(attack, {}))
    if attack in BOUNDED:
        settings["epsilon"] = DATA[job.data].epsilon
    return settings


def attacked(job: Job, attack: str) -> Any:
    """The images of a cell after an attack, which are kept in the folder."""
    net = net_of(job.data, job.how, job.seed, job.folder, job.epochs)
    given = images_of(job)
    return attack_images(
        make_attack(attack, **budget(job, attack)),
        PixelModel(net.program, net.mean, net.std).eval(),
        given.images,
        given.labels,
        seed=job.seed,
        count_all=job.count_all,
        cache=Path(job.folder) / "attacked",
    )


class Scene(NamedTuple):
    """What the detectors of one network are tested on."""

    clean: Observations
    attacks: dict[str, ObservedAttack]
    near: Observations
    far: Observations
    head: Head


@cache
def scene(job: Job) -> Scene:
    """All observations of one network; the name of the job is not read."""
    net = net_of(job.data, job.how, job.seed, job.folder, job.epochs)
    extractor = Extractor(net.program, mean=net.mean, std=net.std)

    def observe(images: torch.Tensor) -> Observations:
        return extractor.observe(images.split(256), further=FURTHER)

    about = DATA[job.data]
    clean = observe(images_of(job).images)
    sets = {name: attacked(job, name) for name in ATTACKS}
    attacks = {
        name: ObservedAttack.of(one, observe(one.attacked), clean) for name, one in sets.items()
    }
    near, far = (
        observe(other_images(name, about.size, job.count, job.seed))
        for name in (about.near, about.far)
    )
    return Scene(clean, attacks, near, far, Head.of(net.program))


def tests_of(job: Job) -> Iterator[tuple[str, Iterator[Row]]]:
    """All tests of one detector, by what is fitted on."""
    found = scene(job._replace(kind="", name=""))

    def make() -> Any:
        return make_detector(job.name, found.head)

    bench = Bench(found.clean, {job.name: make}, metrics, test=TEST, seed=job.seed)
    near, far = DATA[job.data].near, DATA[job.data].far
    others: Any = {near: ("near", found.near), far: ("far", found.far)}
    attack = found.attacks[OOD_ATTACK]
    yield "seen", seen(bench, found.attacks)
    yield "unseen", unseen(bench, found.attacks, FITTED_ON)
    yield "worst case", worst_case(bench, found.attacks, FITTED_ON)
    yield "near", out_of_distribution(bench, {near: others[near]}, (far, found.far))
    yield "far", out_of_distribution(bench, {far: others[far]}, (near, found.near))
    yield f"after {OOD_ATTACK}", out_of_distribution(bench, others, (OOD_ATTACK, attack))
    if not detector_class(job.name).needs_attacked:
        yield "clean only", clean_only(bench, found.attacks)
        yield "worst case, clean only", worst_case(bench, found.attacks, None)
        yield "other data, clean only", out_of_distribution(bench, others)


def adaptive(job: Job) -> dict[str, Any]:
    """Attacks on the network and one detector, on images of CW that it was not fitted on."""
    found = scene(job._replace(kind="", name=""))

    def make() -> Any:
        return make_detector(job.name, found.head)

    bench = Bench(found.clean, {job.name: make}, metrics, test=TEST, seed=job.seed)
    try:
        fitted = bench.fit(job.name, OOD_ATTACK, found.attacks[OOD_ATTACK])
        assert fitted.detector.calibration is not None
        threshold = choose_threshold(fitted.detector.calibration)
        rows = torch.from_numpy(bench.parts.test)
        images = attacked(job, OOD_ATTACK).take(rows)
        net = net_of(job.data, job.how, job.seed, job.folder, job.epochs)
        detector = fitted.detector
        return {"evasions": evasions(net, detector, threshold, images, job.seed, job.quick)}
    except UsageError as error:
        return {"evasions": {}, "refused": {"adaptive": str(error)}}


def work(job: Job) -> dict[str, Any]:
    """A cell, as it is written."""
    start = time.perf_counter()
    found: dict[str, Any]
    if job.kind == "attack":
        made = attacked(job, job.name)
        net = net_of(job.data, job.how, job.seed, job.folder, job.epochs)
        change = (made.attacked - made.clean).flatten(1)[made.successful]
        found = {
            "accuracy": net.accuracy,
            "settings": made.settings,
            "success_rate": made.success_rate,
            "counts": made.counts,
            "l2": float(change.norm(dim=1).mean()),
            "linf": float(change.abs().amax(1).mean()) if len(change) else float("nan"),
        }
    elif job.kind == "adaptive":
        found = adaptive(job)
    else:
        rows: list[dict[str, Any]] = []
        refused: dict[str, str] = {}
        for protocol, tests in tests_of(job):
            try:
                rows.extend(asdict(row) for row in tests)
            except UsageError as error:
                # too few images count for this detector: the tables say so
                refused[protocol] = str(error)
        found = {"rows": rows, "refused": refused}
    return {"key": job.key, **job._asdict(), **found, "seconds": time.perf_counter() - start}


def jobs(
    data: list[str], trained_how: list[str], seeds: int, **options: Any
) -> Iterator[list[Job]]:
    """The cells, in an order in which each finds what it needs: attacks come first."""
    nets = [(name, how, seed) for seed in range(seeds) for name in data for how in trained_how]
    detectors = usable_detectors()
    kinds = (("attack", list(ATTACKS)), ("detector", detectors), ("adaptive", list(ATTACKED)))
    for kind, names in kinds:
        yield [Job(*net, kind=kind, name=name, **options) for net in nets for name in names]


@click.command()
@click.option("--data", multiple=True, type=click.Choice([*DATA]), help="Which sets; all.")
@click.option(
    "--network", multiple=True, type=click.Choice([*TRAINED]), help="Trained how; all ways."
)
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--processes", default=2, show_default=True, help="0: this process alone.")
@click.option("--count-all", is_flag=True, help="Count every image, as the published tables do.")
@click.option("--quick", is_flag=True, help="A first look: 150 images, 4 epochs, weak attacks.")
@click.option("--tables", is_flag=True, help="Print what is there, and compute nothing.")
@click.option(
    "--folder",
    default="runs/detection",
    show_default=True,
    help="Where networks, attacked images and cells are kept.",
)
def main(
    data: tuple[str, ...],
    network: tuple[str, ...],
    seeds: int,
    processes: int,
    count_all: bool,
    quick: bool,
    tables: bool,
    folder: str,
) -> None:
    """Train, attack, detect, print and write the tables."""
    console = Console()
    path = Path(folder) / "cells.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = [*data] or [*DATA]
    size = {"images": 150, "epochs": 4} if quick else {"images": None, "epochs": None}
    options = {**size, "quick": quick, "count_all": count_all, "folder": folder}
    stages = list(jobs(chosen, [*network] or [*TRAINED], seeds, **options))
    if not tables:
        for stage in stages:
            _run(stage, path, processes, console)
    cells = read_cells(path)
    shown = [cells[job.key] for stage in stages for job in stage if job.key in cells]
    report = make_report(shown)
    click.echo(report)
    complete = len(shown) == sum(map(len, stages)) and not (data or network or quick)
    if complete:
        (RESULTS / "detection.cpu.md").write_text(f"{__doc__}\n{report}")


def _run(stage: list[Job], path: Path, processes: int, console: Console) -> None:
    """Compute the cells that are missing; each is appended to the file as soon as it is done."""
    there = read_cells(path)
    left = [job for job in stage if job.key not in there]
    # one process has all cells of a network, whose observations it keeps
    groups: dict[tuple[str, str, int], list[Job]] = {}
    for job in left:
        groups.setdefault((job.data, job.how, job.seed), []).append(job)
    done = 0
    all_of_them = [Group(tuple(cells), str(path)) for cells in groups.values()]
    for group, seconds in run_in_processes(work_all, all_of_them, processes):
        done += len(group.jobs)
        console.print(f"{done} of {len(left)} cells, {group.jobs[-1].key}: {seconds:.0f} s")


class Group(NamedTuple):
    """Cells that one process computes, one after the other, and where they go."""

    jobs: tuple[Job, ...]
    path: str


def work_all(group: Group) -> float:
    """Compute and write cells; the seconds that it took."""
    start = time.perf_counter()
    for job in group.jobs:
        line = json.dumps(work(job)) + "\n"
        with Path(group.path).open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(line)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
