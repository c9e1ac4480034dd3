"""TRGL of ResNet-110 in 4 parts beside the program that the papers' authors released.

    git clone https://github.com/block-wise/module-wise
    python benchmarks/papers_program.py --program module-wise

Both train the same network for the same objective: 96×96 images in batches of 64, SGD, one thread.
The released program is not part of this repository, and its figures need a copy of it. It imports
``torchsummary``, which must be installed too.

Memory is what a fresh process has taken above imports after four steps, with each way to allocate.
The released program sets none of them: it runs as ``glibc``. Time is of the same processes, and of
steps that take turns in one process with freed memory kept.

Where a process takes more than a goal says, the tensors are given a budget that is smaller by what
it takes too much: the fewest residual blocks are computed again with which the same parts keep to
it, and with which any four parts do, as with ``--fit``.
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
from fxtransport.fewest import Fewest
from fxtransport.fitting import FRAGMENTATION, fit_modules
from fxtransport.ir import Balance, Boundary
from fxtransport.nets import resnet110
from fxtransport.objectives import trgl
from fxtransport.planner import Planner
from fxtransport.planning import make_training
from fxtransport.submodule import Target
from fxtransport.training import Parallel, Trainer, TrainerSettings, keep_freed_memory

PROGRAM = "resnet110-4modules-stl10.py"
MODULES, CLASSES = 4, 10
RELEASED, BY_DEPTH, BY_MEMORY = "released program", "equally deep", "by memory"
AGAIN = {BY_DEPTH: "equally deep, blocks again", BY_MEMORY: "budget in four parts"}
"""The same with a budget."""
GOALS = {BY_DEPTH: 0.48, BY_MEMORY: 0.35, AGAIN[BY_DEPTH]: 0.48, AGAIN[BY_MEMORY]: 0.35}
"""The share of the released program's memory that ours is to take."""
TIME_GOAL = 0.9
CORRECTIONS = 3
"""The most budgets that are tried for one goal: an allocator takes more than tensors."""
Step = Callable[[torch.Tensor, torch.Tensor], object]


@dataclass(frozen=True)
class Ours:
    """How this library trains the network."""

    cuts: tuple[str, ...]
    """The modules to cut after."""
    counts: tuple[int, ...]
    """How many residual blocks of each part are computed again."""
    peak: int
    """The bytes of tensors at the peak of a step, by its plan."""
    operations: float
    """Of a step, relative to end to end."""


class Plans:
    """Chooses cuts, and the blocks that are computed again."""

    def __init__(self) -> None:
        model = resnet110(num_classes=CLASSES).to("meta")
        example = torch.empty(2, 3, SIZE, SIZE, device="meta")
        target = Target(model, example_of(model, example))
        training = make_training("trgl", "momentum", None, "cpu")
        self._planner = Planner(target, {}, training, BATCH)

    def plain(self, what: str) -> Ours:
        """Without a budget."""
        balance = Balance.DEPTH if what == BY_DEPTH else Balance.MEMORY
        cuts = self._planner.row(MODULES, balance).cuts
        return self._ours(cuts, (0,) * MODULES, self._planner.measure(cuts).peak_bytes)

    def within(self, what: str, budget: int) -> Ours:
        """With so many bytes for tensors."""
        if what == BY_MEMORY:
            fit = fit_modules(self._planner, int(budget / (1 - FRAGMENTATION)), MODULES)
            return self._ours(fit.cuts, fit.checkpoint_blocks, fit.peak_bytes)
        again = self._planner.checkpointing
        assert again is not None, "ResNet-110 has blocks that can be computed again"
        cuts = again.row(MODULES, Balance.DEPTH).cuts
        found = Fewest(again, budget, cuts, again.measure(cuts).peak_bytes).counts(cuts)
        if found is None:
            raise click.ClickException(f"four equally deep parts do not fit into {budget} bytes")
        return self._ours(cuts, found.counts, found.memory.peak_bytes)

    def _ours(self, cuts: tuple[Boundary, ...], counts: tuple[int, ...], peak: int) -> Ours:
        planner = self._planner
        operations = planner.flops_of(cuts, counts) / planner.flops
        return Ours(planner.names(cuts), counts, peak, operations)


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
    settings = TrainerSettings(checkpoint_blocks=ours.counts)
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


def all_measured(
    plans: Plans, folder: str, allocator: str
) -> tuple[dict[str, dict[str, Any]], dict[str, Ours | None]]:
    """What each takes with one way to allocate, and how ours are trained."""
    ways: dict[str, Ours | None] = {RELEASED: None}
    found = {RELEASED: measured(None, folder, allocator)}
    for what in (BY_DEPTH, BY_MEMORY):
        again, plain = AGAIN[what], plans.plain(what)
        ways[what] = ways[again] = plain
        found[what] = found[again] = measured(plain, folder, allocator)
        budget = plain.peak
        for _ in range(CORRECTIONS):
            over = found[again]["mib"] - GOALS[again] * found[RELEASED]["mib"]
            if over <= 0:
                break
            budget -= int(over * MIB)
            ways[again] = plans.within(what, budget)
            found[again] = measured(ways[again], folder, allocator)
            click.echo(f"{allocator}, {again}: {found[again]}", err=True)
    return found, ways


def times(folder: str, ways: Mapping[str, Ours | None], rounds: int) -> dict[str, list[float]]:
    """Seconds of processor time of steps that take turns."""
    torch.set_num_threads(1)
    keep_freed_memory()
    program, (images, targets) = load_released(folder), batch()
    steps = {what: step_of(ours, program) for what, ours in ways.items()}
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
    for what in results["time"]:
        cells = []
        for of_kind in processes.values():
            mib, seconds = of_kind[what]["mib"], of_kind[what]["seconds"]
            share = mib / of_kind[RELEASED]["mib"]
            again = sum(of_kind[what].get("counts", ()))
            blocks = f", {again} again" if again else ""
            cells.append(f"{mib:.0f} ({share:.2f}), {seconds:.1f}{blocks}")
        goals = ("", "") if what == RELEASED else (f"{GOALS[what]}", f"{TIME_GOAL}")
        table.add_row(what, *cells, goals[0], spread(results["time"][what]), goals[1])
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
    plans, processes, ways = Plans(), {}, {}
    for kind in allocators():
        # the steps that take turns are those of the last one
        processes[kind], ways = all_measured(plans, folder, kind)
    seconds = times(folder, ways, rounds)
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
