"""Modules that others wrote: exact, refused by name, or wrong.

Small models with random weights of transformers, diffusers, monai, segmentation-models,
vit-pytorch, x-transformers, open_clip, pytorchcv, and of torch's own tests, each in a process of
its own. A module is exact if its program, and the chain of its two parts, return what it returns,
bit for bit, in train and eval at two batch sizes, with its gradients, its buffers and the state
of the generators afterwards. Needs the extra ``foreign``; libraries that are not installed are
left out. Targets: none crashed, none wrong, at most 1 % refused wrongly.

    python benchmarks/foreign.py [--only LIBRARY] [--name NAME] [--workers 2] [--resume]
"""

import json
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import click
import torch
from common import RESULTS, setting
from foreign_modules import LIBRARIES, installed, library
from foreign_modules.judging import (
    CRASHED,
    GUARDED,
    LATE,
    OUTCOMES,
    WRONG,
    WRONGLY,
    Judgment,
    as_json,
    judge,
)
from rich.console import Console
from rich.table import Table

OUTPUT = RESULTS / "foreign.cpu.json"
PRELOADED = ["__main__", "foreign_modules.warm", "torchvision", "timm"]
"""What every process needs, imported once, as the files of the libraries are."""
MOST_WRONGLY = 0.01
WRITTEN_EVERY = 20

Job = tuple[str, str]
"""A library and the name of one of its cases."""
Record = dict[str, Any]


def work(job: Job, verify: bool, results: Connection) -> None:
    """Judge one case, in a process of its own."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    known = library(job[0])
    results.send(as_json(judge(known.cases[job[1]], known, verify)))


class Running:
    """A process that judges a case."""

    def __init__(self, job: Job, verify: bool, limit: float) -> None:
        self.job, self.limit, self.start = job, limit, time.monotonic()
        context = multiprocessing.get_context("forkserver")
        self._results, sender = context.Pipe(duplex=False)
        self._process: ForkServerProcess = context.Process(target=work, args=(job, verify, sender))
        self._process.start()
        sender.close()

    def result(self) -> Record | None:
        """The judgment, once there is one."""
        if self._results.poll():
            return self._received()
        if time.monotonic() - self.start > self.limit:
            self._process.kill()
            return self._ended(LATE, f"more than {self.limit:g} s")
        return None

    def _received(self) -> Record:
        try:
            record: Record = self._results.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            signal = f"signal {-code}" if code and code < 0 else f"exit code {code}"
            return self._ended(CRASHED, f"the process ended with {signal}")
        self._process.join()
        return record

    def _ended(self, outcome: str, reason: str) -> Record:
        self._process.join()
        return as_json(Judgment(*self.job, outcome=outcome, reason=reason))


def judge_all(jobs: list[Job], workers: int, verify: bool, limit: float) -> Iterator[Record]:
    """The judgments, in the order in which they are made."""
    libraries = dict.fromkeys(lib for lib, _ in jobs)
    files = [f"foreign_modules.{file}" for name in libraries for file in LIBRARIES[name]]
    multiprocessing.get_context("forkserver").set_forkserver_preload([*PRELOADED, *files])
    # the process that the others are forked from is not told where this file is
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    waiting, running = list(jobs), list[Running]()
    while waiting or running:
        while waiting and len(running) < workers:
            running.append(Running(waiting.pop(0), verify, limit))
        for process in list(running):
            record = process.result()
            if record is not None:
                running.remove(process)
                yield record
        time.sleep(0.02)


def summary(records: list[Record]) -> Record:
    """Counts of outcomes, and of residuals that are as expected."""
    counts = {outcome: sum(r["outcome"] == outcome for r in records) for outcome in OUTCOMES}
    counted = [r for r in records if r["expected"] is not None and r["parts"]]
    seconds = [r["seconds"] for r in records if r["parts"]]
    return {
        "modules": len(records),
        **counts,
        "guarded rightly": sum(r["rightly_guarded"] for r in records),
        "two parts": sum(r["parts"] == 2 for r in records),
        "residuals expected": len(counted),
        "residuals right": sum(r["expected"] == r["found"] for r in counted),
        "process disturbed": sum(bool(r["disturbed"]) for r in records),
        "seconds": statistics.median(seconds) if seconds else None,
    }


def meets_targets(found: Record) -> bool:
    """None crashed, none wrong, few refused wrongly."""
    few = found[WRONGLY] <= MOST_WRONGLY * found["modules"]
    return found[CRASHED] == found[WRONG] == 0 and few


def show(console: Console, records: list[Record]) -> None:
    """Print the table by library, and what is not as it should be."""
    titles = ["exact", "guarded", "refused\nrightly", "refused\nwrongly", "crashed", "wrong"]
    titles += ["eager\nfails", "timed\nout"]
    table = Table("library", "modules", *titles, "two\nparts", "residuals\nright")
    table.add_column("process\ndisturbed")
    table.add_column("seconds")
    names = list(dict.fromkeys(r["library"] for r in records))
    for name in [*names, "all"]:
        found = summary([r for r in records if name in (r["library"], "all")])
        right = f"{found['residuals right']} of {found['residuals expected']}"
        taken = "–" if found["seconds"] is None else f"{found['seconds']:.2f}"
        counts = {outcome: str(found[outcome] or "") for outcome in OUTCOMES}
        if found[GUARDED]:
            counts[GUARDED] += f" ({found['guarded rightly']} rightly)"
        cells = [str(found["modules"]), *counts.values(), str(found["two parts"]), right]
        cells += [str(found["process disturbed"] or ""), taken]
        table.add_row(name, *cells, end_section=name == names[-1])
    console.print(table)
    bad = [r for r in records if r["outcome"] in (WRONGLY, CRASHED, WRONG, LATE)]
    for r in sorted(bad, key=lambda r: r["outcome"]):
        text = f"{r['library']} {r['name']}: {r['outcome']}: {r['reason']}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    for r in records:
        if r["parts"] and r["expected"] not in (None, r["found"]):
            text = f"{r['library']} {r['name']}: {r['found']} residuals, not {r['expected']}"
            console.print(text, markup=False, highlight=False)
    met = "✓" if meets_targets(summary(records)) else "✗"
    console.print(f"none crashed, none wrong, at most {MOST_WRONGLY:.0%} refused wrongly: {met}")


def versions(names: list[str]) -> dict[str, str]:
    """The versions of libraries, by their names when imported."""
    distributions = packages_distributions()
    return {name: version(distributions[name][0]) for name in names}


def write(path: Path, before: Record, records: list[Record], settings: Record) -> None:
    """Write all judgments and what they depend on; those from before that are not made again."""
    path.parent.mkdir(exist_ok=True)
    made = {(r["library"], r["name"]) for r in records}
    kept = [r for r in before["modules"] if (r["library"], r["name"]) not in made]
    order = list(LIBRARIES)
    together = sorted([*kept, *records], key=lambda r: (order.index(r["library"]), r["name"]))
    libraries = before["setting"].get("libraries", {})
    libraries |= versions(list(dict.fromkeys(r["library"] for r in records)))
    found = {
        "setting": {**setting("cpu"), "libraries": libraries, **settings},
        "all": summary(together),
        "libraries": {n: summary([r for r in together if r["library"] == n]) for n in libraries},
        "modules": together,
    }
    path.write_text(json.dumps(found, indent=1) + "\n")


def earlier(path: Path, libraries: list[str]) -> Record:
    """What a file holds of some libraries' modules, as far as these modules still exist."""
    if not path.exists():
        return {"setting": {}, "modules": []}
    found: Record = json.loads(path.read_text())
    names = {name: library(name).cases for name in libraries}
    found["modules"] = [
        r for r in found["modules"] if r["name"] in names.get(r["library"], [r["name"]])
    ]
    return found


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(LIBRARIES)), help="A library.")
@click.option("--name", "names", multiple=True, help="A module; the file then keeps the others.")
@click.option("--workers", default=2, show_default=True, help="The number of processes.")
@click.option("--limit", default=120.0, show_default=True, help="Seconds that a module may take.")
@click.option("--verify/--no-verify", default=True, help="Whether compiling verifies.")
@click.option("--resume", is_flag=True, help="Leave out what the file already has.")
@click.option("--output", type=click.Path(path_type=Path), default=OUTPUT, help="The file.")
def main(
    only: tuple[str, ...],
    names: tuple[str, ...],
    workers: int,
    limit: float,
    verify: bool,
    resume: bool,
    output: Path,
) -> None:
    """Compile modules that others wrote, compare them, print and write what became of them."""
    console = Console(width=140)
    torch.set_num_threads(1)
    there = installed()
    for name in set(only or LIBRARIES) - set(there):
        click.echo(f"{name} is not installed: pip install -e '.[foreign]'", err=True)
    chosen = [name for name in there if not only or name in only]
    jobs = [(lib, case) for lib in chosen for case in library(lib).cases]
    jobs = [job for job in jobs if not names or job[1] in names]
    before = earlier(output, chosen)
    if resume:
        have = {(r["library"], r["name"]) for r in before["modules"]}
        jobs = [job for job in jobs if job not in have]
    records: list[Record] = []
    settings: Record = {"verify": verify, "limit": limit}
    for done, record in enumerate(judge_all(jobs, workers, verify, limit), 1):
        records.append(record)
        line = f"{done}/{len(jobs)} {record['library']} {record['name']}: {record['outcome']}"
        click.echo(line, err=True)
        if done % WRITTEN_EVERY == 0 or done == len(jobs):
            write(output, before, records, settings)
    show(console, records if names or only else earlier(output, [])["modules"])


if __name__ == "__main__":
    main()
