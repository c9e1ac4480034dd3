"""What training takes of a real process: by torch's CPU allocator, and by the system.

A process trains ResNet-110 for a few steps and then prints its figures, as ``memory.py`` wants
them. It can be run alone:

    python benchmarks/resident.py --modules 4 --balance depth [--keep]
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import click
import torch
from allocated import allocated_peak

from fxtransport import Program, transportify
from fxtransport.allocators import GLIBC_SETTINGS, JEMALLOC_SETTINGS, jemalloc_library
from fxtransport.nets import resnet110
from fxtransport.objectives import plain, trgl
from fxtransport.training import EndToEnd, Parallel, Schedule, Trainer, keep_freed_memory
from fxtransport.training.jemalloc import find_jemalloc

MIB = 2**20
BATCH, SIZE, STEPS = 64, 96, 4
ALLOCATORS = ("glibc", "glibc, kept", "jemalloc, kept")
"""How freed memory is treated: as the C library does by default, or kept for the next step."""


def trained(modules: int, balance: str) -> tuple[Program, Trainer]:
    """ResNet-110 and what trains it, end to end or in parts."""
    torch.manual_seed(0)
    example = torch.empty(2, 3, SIZE, SIZE, device="meta")
    model = resnet110(num_classes=10)
    options: Any = {"modules": modules, "balance": balance, "batch_size": BATCH}
    program = transportify(model, example, verify=False, **options)
    schedule: Schedule = EndToEnd(1) if modules == 1 else Parallel(1)
    return program, Trainer(program, plain() if modules == 1 else trgl(0.5), schedule)


def measure(modules: int, balance: str, *, keep: bool, by_allocator: bool) -> dict[str, Any]:
    """What this process takes; a child of ``measured`` runs it."""
    torch.set_num_threads(1)
    if keep and not keep_freed_memory():
        raise click.ClickException("freed memory cannot be kept: see keep_freed_memory")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    program, trainer = trained(modules, balance)
    images, targets = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(10, (BATCH,))
    if by_allocator:
        trainer.step(images, targets)
        return {"allocator_mib": allocated_peak(program, trainer, images, targets) / MIB}
    seconds = []
    for _ in range(STEPS):
        start = time.process_time()
        trainer.step(images, targets)
        seconds.append(time.process_time() - start)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "resident_mib": (after - before) / MIB,
        "step_seconds": statistics.median(seconds[1:]),  # the first one allocates
        "jemalloc": find_jemalloc() is not None,
    }


def allocators() -> tuple[str, ...]:
    """Those that this machine has."""
    return ALLOCATORS if jemalloc_library() is not None else ALLOCATORS[:2]


def measured(modules: int, balance: str, allocator: str | None) -> dict[str, Any]:
    """What a fresh process measures.

    Args:
        modules: The number of parts; end to end if it is one.
        balance: How they are cut.
        allocator: One of ``ALLOCATORS``; None to ask torch's own allocator.
    """
    chosen = (*GLIBC_SETTINGS, *JEMALLOC_SETTINGS)
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    command = [sys.executable, __file__, "--modules", str(modules), "--balance", balance]
    if allocator is None:
        command.append("--by-allocator")
    elif allocator.endswith("kept"):
        command.append("--keep")
    if allocator is not None and allocator.startswith("jemalloc"):
        environment["LD_PRELOAD"] = str(jemalloc_library())
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@click.command()
@click.option("--modules", default=4, show_default=True)
@click.option("--balance", default="depth", show_default=True)
@click.option("--keep", is_flag=True, help="Keep freed memory.")
@click.option("--by-allocator", is_flag=True, help="The peak of torch's allocator.")
def main(modules: int, balance: str, keep: bool, by_allocator: bool) -> None:
    """Train, and print what this process has taken, as JSON."""
    click.echo(json.dumps(measure(modules, balance, keep=keep, by_allocator=by_allocator)))


if __name__ == "__main__":
    main()
