"""TRGL of ResNet-110 in 4 parts beside the program that the papers' authors released.

    git clone https://github.com/block-wise/module-wise
    python benchmarks/papers_program.py --program module-wise

Both train the same network for the same objective: 96×96 images in batches of 64, SGD, one thread.
The released program is not part of this repository, and its figures need a copy of it. It imports
``torchsummary``, which must be installed too.

Ours is cut into equally deep parts, and by memory; each as it is, with norms and activations that
are computed again (``--recompute-norms``), and also with ``--channels-last``, with which other
kernels run. Numbers are the same up to rounding.

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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import torch
from common import spread, write
from resident import BATCH, MIB, SIZE, STEPS, allocators
from rich.console import Console
from rich.table import Table
from torch import nn

from fxtransport import transportify
from fxtransport.allocators import GLIBC_SETTINGS, JEMALLOC_SETTINGS, jemalloc_library
from fxtransport.example_inputs import example_of
from fxtransport.ir import Balance
from fxtransport.nets import resnet110
from fxtransport.objectives import trgl
from fxtransport.planner import Planner
from fxtransport.planning import make_training
from fxtransport.submodule import Target
from fxtransport.training import Parallel, Trainer, TrainerSettings, keep_freed_memory

PROGRAM = "resnet110-4modules-stl10.py"
MODULES, CLASSES = 4, 10
RELEASED = "released program"
BALANCES = {"equally deep": Balance.DEPTH, "by memory": Balance.MEMORY}
GOALS = {"equally deep": 0.48, "by memory": 0.35}
"""The share of the released program's memory that ours is to take."""
TIME_GOAL = 0.9
Step = Callable[[torch.Tensor, torch.Tensor], object]


@dataclass(frozen=True)
class Ours:
    """How this library trains the network."""

    cuts: tuple[str, ...]
    """The modules to cut after."""
    recompute_norms: bool
    """Whether norms and activations are computed again."""
    channels_last: bool
    """Whether maps lie in memory with their channels last."""
    peak_mib: float
    """What tensors take at the peak of a step, by its plan."""


def ways() -> dict[str, Ours | None]:
    """All that is measured; None is the released program."""
    model = resnet110(num_classes=CLASSES).to("meta")
    example = torch.empty(2, 3, SIZE, SIZE, device="meta")
    target = Target(model, example_of(model, example))
    training = make_training("trgl", "momentum", None, "cpu")
    keeps = Planner(target, {}, training, BATCH)
    again = keeps.recomputing
    assert again is not None, "ResNet-110 has norms that can be computed again"
    found: dict[str, Ours | None] = {RELEASED: None}
    kinds = (
        (keeps, False, ""),
        (again, False, ", norms again"),
        (again, True, ", channels last"),
    )
    for name, balance in BALANCES.items():
        for planner, channels_last, how in kinds:
            cuts = planner.row(MODULES, balance).cuts
            peak = planner.measure(cuts).peak_bytes / MIB
            found[name + how] = Ours(planner.names(cuts), planner.recomputes, channels_last, peak)
    return found


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


def step_of(ours: Ours | None, program: ModuleType) -> Step:
    """A training step of ours, or of the released program."""
    torch.manual_seed(0)
    if ours is None:
        return released_step(program)
    example = torch.empty(2, 3, SIZE, SIZE, device="meta")
    compiled = transportify(
        resnet110(num_classes=CLASSES), example, cuts=ours.cuts, batch_size=BATCH, verify=False
    )
    settings = TrainerSettings(
        recompute_norms=ours.recompute_norms, channels_last=ours.channels_last
    )
    return Trainer(compiled, trgl(0.5), Parallel(1), settings=settings).step


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Images and their classes."""
    return torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(CLASSES, (BATCH,))


def resident(ours: Ours | None, folder: str, keep: bool) -> dict[str, float]:
    """What this process has taken above imports, and a step's time; a child of ``measured``."""
    torch.set_num_threads(1)
    program = load_released(folder)
    if keep and not keep_freed_memory():
        raise click.ClickException("freed memory cannot be kept: see keep_freed_memory")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step, (images, targets) = step_of(ours, program), batch()
    seconds = [_timed(step, images, targets) for _ in range(STEPS)]
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    # the first step allocates
    return {"mib": taken * 1024 / MIB, "seconds": statistics.median(seconds[1:])}


def _timed(step: Step, images: torch.Tensor, targets: torch.Tensor) -> float:
    start = time.process_time()
    step(images, targets)
    return time.process_time() - start


def measured(ours: Ours | None, folder: str, allocator: str) -> dict[str, Any]:
    """The MiB and the seconds of a step of a fresh process."""
    chosen = (*GLIBC_SETTINGS, *JEMALLOC_SETTINGS)
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    if allocator.startswith("jemalloc"):
        environment["LD_PRELOAD"] = str(jemalloc_library())
    described = {} if ours is None else asdict(ours)
    command = [sys.executable, __file__, "--program", folder, "--child", json.dumps(described)]
    command += ["--keep"] if allocator.endswith("kept") else []
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return {**json.loads(done.stdout.splitlines()[-1]), **described}


def times(folder: str, found: Mapping[str, Ours | None], rounds: int) -> dict[str, list[float]]:
    """Seconds of processor time of steps that take turns."""
    torch.set_num_threads(1)
    keep_freed_memory()
    program, (images, targets) = load_released(folder), batch()
    steps = {what: step_of(ours, program) for what, ours in found.items()}
    taken: dict[str, list[float]] = {what: [] for what in steps}
    for turn in range(rounds + 1):
        for what, step in steps.items():
            seconds = _timed(step, images, targets)
            if turn:  # the first one allocates
                taken[what].append(seconds)
    return taken


def show(results: dict[str, Any]) -> None:
    """Print memory and time beside the released program's."""
    processes = results["processes"]
    columns = (f"{kind}: MiB, seconds" for kind in processes)
    table = Table("program", *columns, "goal", "time, taking turns", "goal")
    for what, ratios in results["time"].items():
        cells = []
        for of_kind in processes.values():
            mib, seconds = of_kind[what]["mib"], of_kind[what]["seconds"]
            share = mib / of_kind[RELEASED]["mib"]
            cells.append(f"{mib:.0f} ({share:.2f}), {seconds:.1f}")
        goal = GOALS.get(what.partition(",")[0])
        goals = ("", "") if goal is None else (f"{goal}", f"{TIME_GOAL}")
        table.add_row(what, *cells, goals[0], spread(ratios), goals[1])
    Console(width=200).print(table)


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
        described = json.loads(child)
        ours = Ours(**described) if described else None
        click.echo(json.dumps(resident(ours, folder, keep)))
        return
    found, processes = ways(), dict[str, dict[str, Any]]()
    for kind in allocators():
        processes[kind] = {}
        for what, ours in found.items():
            processes[kind][what] = measured(ours, folder, kind)
            click.echo(f"{kind}, {what}: {processes[kind][what]}", err=True)
    seconds = times(folder, found, rounds)
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
