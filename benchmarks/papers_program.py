"""TRGL of ResNet-110 in 4 parts beside the program that the papers' authors released.

    git clone https://github.com/block-wise/module-wise
    python benchmarks/papers_program.py --program module-wise

Both train the same network for the same objective: 96×96 images in batches of 64, SGD, one thread.
The released program is not part of this repository, and its figures need a copy of it. It imports
``torchsummary``, which must be installed too.

Memory is what a fresh process has taken above imports after four steps, with each way to allocate.
The released program sets none of them: it runs as ``glibc``. Time is of the same processes, and of
steps that take turns in one process with freed memory kept.
"""

import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import torch
from common import spread, write
from resident import BATCH, MIB, SIZE, STEPS, allocators, trained
from rich.console import Console
from rich.table import Table
from torch import nn

from fxtransport.allocators import GLIBC_SETTINGS, JEMALLOC_SETTINGS, jemalloc_library
from fxtransport.training import keep_freed_memory

PROGRAM = "resnet110-4modules-stl10.py"
MODULES, CLASSES = 4, 10
RELEASED, BY_DEPTH, BY_MEMORY = "released program", "equally deep", "by memory"
GOALS = {BY_DEPTH: 0.48, BY_MEMORY: 0.35}
"""The share of the released program's memory that ours is to take."""
TIME_GOAL = 0.9
Step = Callable[[torch.Tensor, torch.Tensor], object]


def load_released(folder: str) -> ModuleType:
    """The released program, as a module."""
    sys.path.insert(0, folder)  # it imports its neighbors
    path = Path(folder) / PROGRAM
    spec = importlib.util.spec_from_file_location("released", path)
    if spec is None or spec.loader is None or not path.exists():
        raise click.ClickException(f"{folder} has no {PROGRAM}")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.device = torch.device("cpu")  # which it otherwise sets as a script
    return program


def released_step(program: ModuleType) -> Step:
    """A step of the released program, with the options of its README."""
    channels, reduced, pooling = (16, 32, 64, 64), (1, 2, 4, 4), (16, 16, 8, 8)
    initialize = partial(program.initialize, "orthogonal", 0.1)
    modules = [
        getattr(program, f"ResModule{number}")(
            [1, channels[part], SIZE // reduced[part], SIZE // reduced[part]],
            CLASSES,
            "1CNN",
            pooling[part],
            initialize,
        )
        for part, number in enumerate(range(1, MODULES + 1))
    ]
    optimizers = [
        torch.optim.SGD(module.parameters(), lr=0.002, momentum=0.9, weight_decay=0.0002)
        for module in modules
    ]
    loss, taus = nn.CrossEntropyLoss(label_smoothing=0.1), [0.5, 0.5, 1.0, 1.0]

    def step(images: torch.Tensor, targets: torch.Tensor) -> None:
        unused = (False, 1, "increasing", 1, 0, 0)  # of its multipliers
        batches = [(images, targets)]
        program.train_par(modules, optimizers, None, loss, True, taus, *unused, 1, batches, [], [])

    return step


def step_of(what: str, program: ModuleType) -> Step:
    """A training step of one of the three."""
    torch.manual_seed(0)
    if what == RELEASED:
        return released_step(program)
    _, trainer = trained(MODULES, "depth" if what == BY_DEPTH else "memory")
    return trainer.step


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Images and their classes."""
    return torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(CLASSES, (BATCH,))


def resident(what: str, folder: str, keep: bool) -> dict[str, float]:
    """What this process has taken above imports, and a step's time; a child of ``measured``."""
    torch.set_num_threads(1)
    program = load_released(folder)
    if keep and not keep_freed_memory():
        raise click.ClickException("freed memory cannot be kept: see keep_freed_memory")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step, (images, targets) = step_of(what, program), batch()
    seconds = [_timed(step, images, targets) for _ in range(STEPS)]
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    # the first step allocates
    return {"mib": taken * 1024 / MIB, "seconds": statistics.median(seconds[1:])}


def _timed(step: Step, images: torch.Tensor, targets: torch.Tensor) -> float:
    start = time.process_time()
    step(images, targets)
    return time.process_time() - start


def measured(what: str, folder: str, allocator: str) -> dict[str, float]:
    """The MiB and the seconds of a step of a fresh process."""
    chosen = (*GLIBC_SETTINGS, *JEMALLOC_SETTINGS)
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    if allocator.startswith("jemalloc"):
        environment["LD_PRELOAD"] = str(jemalloc_library())
    command = [sys.executable, __file__, "--program", folder, "--child", what]
    command += ["--keep"] if allocator.endswith("kept") else []
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def times(folder: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of processor time of steps that take turns."""
    torch.set_num_threads(1)
    keep_freed_memory()
    program, (images, targets) = load_released(folder), batch()
    steps = {what: step_of(what, program) for what in (RELEASED, BY_DEPTH, BY_MEMORY)}
    found: dict[str, list[float]] = {what: [] for what in steps}
    for turn in range(rounds + 1):
        for what, step in steps.items():
            taken = _timed(step, images, targets)
            if turn:  # the first one allocates
                found[what].append(taken)
    return found


def show(results: dict[str, Any]) -> None:
    """Print memory and time beside the released program's."""
    processes = results["processes"]
    columns = (f"{kind}: MiB, seconds" for kind in processes)
    table = Table("program", *columns, "goal", "time, taking turns", "goal")
    for what in (RELEASED, BY_DEPTH, BY_MEMORY):
        cells = []
        for of_kind in processes.values():
            mib, seconds = of_kind[what]["mib"], of_kind[what]["seconds"]
            share = mib / of_kind[RELEASED]["mib"]
            cells.append(f"{mib:.0f} ({share:.2f}), {seconds:.1f}")
        goals = ("", "") if what == RELEASED else (f"{GOALS[what]}", f"{TIME_GOAL}")
        table.add_row(what, *cells, goals[0], spread(results["time"][what]), goals[1])
    Console(width=150).print(table)


@click.command()
@click.option("--program", "folder", help="The folder of the released program.")
@click.option("--rounds", default=5, show_default=True, help="Steps that take turns.")
@click.option("--child", hidden=True)
@click.option("--keep", is_flag=True, hidden=True)
def main(folder: str | None, rounds: int, child: str | None, keep: bool) -> None:
    """Measure, print and write memory and time beside the released program's."""
    if folder is None:
        click.echo("nothing is measured without a copy of the released program: give --program")
        return
    if child is not None:
        click.echo(json.dumps(resident(child, folder, keep)))
        return
    processes = {
        kind: {what: measured(what, folder, kind) for what in (RELEASED, BY_DEPTH, BY_MEMORY)}
        for kind in allocators()
    }
    seconds = times(folder, rounds)
    ratios = {
        what: [own / released for own, released in zip(own, seconds[RELEASED], strict=True)]
        for what, own in seconds.items()
    }
    results = {"processes": processes, "seconds": seconds, "time": ratios}
    show(results)
    median = statistics.median(seconds[RELEASED])
    click.echo(f"times are ratios; a step of the released program takes {median:.1f} s")
    write("papers_program", "cpu", results)


if __name__ == "__main__":
    main()
