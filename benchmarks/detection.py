"""Which detector finds attacks: ResNets trained plain, by LAP and by RCE, on three sets of images.

    python benchmarks/detection.py [--data digits] [--network VAN] [--seeds 5] [--quick]

A ResNet-9 of 16 channels is trained on each set, for 30 epochs on digits, 6 on MNIST and 20 on
photographs. Of the images that it was not trained on, 300 of digits, or 180 of MNIST and of
photographs, are attacked by each of twelve attacks. Detectors are fitted on 70 % of them (B1, of
which a fifth chooses the threshold) and tested on the rest (B2). Counted as attacked is what was
classified correctly, changed, and fools the network; the success rate stands beside every figure.
The published tables count every image (``--count-all``), and have 90 % and 10 % of 10 000 images.
With ``--noisy``, copies count as clean that have as much noise as FGM changes.

Iterations: PGD 40, BIM 10, APGD and DeepFool 100, FMN and DDN 50, CW 4 × 50 from a weight of 1,
AutoAttack 20 with 200 queries of Square, Square 500 queries, HopSkipJump 6 with 30 evaluations at
first, Boundary 300.
ε is 0.1 on digits and MNIST, where 0.03 fools almost nothing, and 0.03 on photographs.

All detectors are tested. Relative Mahalanobis has two covariances of 100 columns, and its paper
fits them on all training images: so it has more clean images here, which nobody attacks, with B1
629 of digits, 946 of MNIST and 608 of photographs, of which a fifth chooses the threshold.
ODIN, and Mahalanobis with noise, move images along the gradient by a magnitude of Lee et al.
(2018), which a fifth of B1 chooses for each network, on images of FGM.

Four detectors are also attacked themselves, by HopSkipJump on decisions, by features that they do
not detect, and by gradients, on 30 images of B2. Those of the thesis are also fitted on 70 % of the
near set and tested on the rest of it, as there. Otherwise other data to test on is a third set.

A cell is a network with an attack, or with a detector under all protocols. Each is a line of JSON
in the file of results as soon as it is done; those that are there are not run again. Networks of
the first seed come first, of all sets and ways of training, so that a run that was interrupted has
whole seeds. ``--tables`` prints what is there. Tables of all cells are written to
``benchmarks/results/``.

A network takes about 115 seconds of a processor on digits, 210 on MNIST and 240 on photographs:
training 5, 15 and 30, its attacks 30, 95 and 105, its detectors 60 on each, most of them to fit
forests, and the attacks on detectors 20, 40 and 40. The 45 networks take about 2.4 hours, half of
that by two processes on two free cores.
"""

import fcntl
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
from common import RESULTS
from detection_adaptive import ATTACKED, evasions
from detection_nets import DATA, TRAINED
from detection_protocols import (
    KNOW_OTHER_DATA,
    OOD_ATTACK,
    VARIANTS,
    bench_of,
    seen_other_data,
    tests_of,
)
from detection_record import write_record
from detection_scene import ADAPTIVE, OBSERVED, Job, attacked, net_of, scene
from detection_tables import make_report, read_cells
from rich.console import Console
from workers import run_in_processes

from fxtransport.detection.attacks import ATTACKS
from fxtransport.detection.registry import detector_class, detector_names
from fxtransport.detection.thresholds import choose_threshold
from fxtransport.errors import UsageError

SEEDS = 5
"""As many networks of each kind at least make the tables that are kept."""


def usable_detectors() -> list[str]:
    """The names of detectors that need nothing but what is observed here."""
    names = [name for name in detector_names() if set(detector_class(name).reads) <= {*OBSERVED}]
    return [*dict.fromkeys([*names, *VARIANTS])]


def adaptive(job: Job) -> dict[str, Any]:
    """Attacks on the network and one detector, on images of CW that it was not fitted on."""
    found = scene(job.network)
    bench = bench_of(job, found)
    try:
        fitted = bench.fit(job.name, OOD_ATTACK, found.attacks[OOD_ATTACK])
        assert fitted.detector.calibration is not None
        threshold = choose_threshold(fitted.detector.calibration)
        rows = torch.from_numpy(bench.parts.test[:ADAPTIVE])
        images = attacked(job, OOD_ATTACK).take(rows)
        net = net_of(job.data, job.how, job.seed, job.folder, job.epochs)
        detector = fitted.detector
        return {"evasions": evasions(net, detector, threshold, images, job.seed, job.quick)}
    except UsageError as error:
        return {"evasions": {}, "refused": {"adaptive": str(error)}}


def work(job: Job) -> dict[str, Any]:
    """A cell, as it is written."""
    start, processor = time.perf_counter(), time.process_time()
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
        try:
            for protocol, tests in (tests_of if job.kind == "detector" else seen_other_data)(job):
                try:
                    rows.extend(asdict(row) for row in tests)
                except UsageError as error:
                    # too few images count for this detector: the tables say so
                    refused[protocol] = str(error)
        except UsageError as error:
            # its images cannot be moved
            refused["all"] = str(error)
        magnitudes = scene(job.network).magnitudes._asdict()
        found = {"rows": rows, "refused": refused, "magnitudes": magnitudes}
    took = {
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - processor,
    }
    return {"key": job.key, **job._asdict(), **found, **took}


def jobs(
    data: list[str], trained_how: list[str], seeds: int, **options: Any
) -> Iterator[list[Job]]:
    """The cells of each network, of all sets and ways of training before the next seed."""
    names = {
        "attack": [*ATTACKS],
        "detector": usable_detectors(),
        "other data": [*KNOW_OTHER_DATA],
        "adaptive": [*ATTACKED],
    }
    for seed in range(seeds):
        for name in data:
            for how in trained_how:
                yield [
                    Job(name, how, seed, kind, each, **options)
                    for kind, those in names.items()
                    for each in those
                ]


@click.command()
@click.option("--data", multiple=True, type=click.Choice([*DATA]), help="Which sets; all.")
@click.option(
    "--network", multiple=True, type=click.Choice([*TRAINED]), help="Trained how; all ways."
)
@click.option("--seeds", default=SEEDS, show_default=True, type=click.IntRange(1))
@click.option("--processes", default=2, show_default=True, help="0: this process alone.")
@click.option("--count-all", is_flag=True, help="Count every image, as the published tables do.")
@click.option(
    "--noisy", is_flag=True, help="Count copies as clean that have as much noise as FGM changes."
)
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
    noisy: bool,
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
    options = {
        **size, "quick": quick, "count_all": count_all, "noisy": noisy, "folder": folder
    }  # fmt: skip
    networks = list(jobs(chosen, [*network] or [*TRAINED], seeds, **options))
    if not tables:
        _run(networks, path, processes, console)
    cells = read_cells(path)
    wanted = [job for one in networks for job in one]
    shown = [cells[job.key] for job in wanted if job.key in cells]
    report = make_report(shown)
    click.echo(report)
    complete = len(shown) == len(wanted) and not (
        data or network or quick or noisy or seeds < SEEDS
    )
    if complete:
        (RESULTS / "detection.cpu.md").write_text(f"{__doc__}\n{report}")
        write_record(shown, str(__doc__))


def _run(networks: list[list[Job]], path: Path, processes: int, console: Console) -> None:
    """Compute the cells that are missing; each is appended to the file as soon as it is done."""
    there = read_cells(path)
    # one process has all cells of a network, whose observations it keeps
    left = [tuple(job for job in one if job.key not in there) for one in networks]
    groups = [Group(cells, str(path)) for cells in left if cells]
    count, done = sum(len(group.jobs) for group in groups), 0
    for group, seconds in run_in_processes(work_all, groups, processes):
        done += len(group.jobs)
        console.print(f"{done} of {count} cells, {group.jobs[-1].key}: {seconds:.0f} s")


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
