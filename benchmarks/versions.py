"""Compare this version of the library with another one: seconds and bytes, in one run.

Both measure the same in processes that take turns, so that a busy machine slows both; the
ratios of neighboring processes count. It uses what has not changed between versions only. The
peak memory of training is what each version's own ``benchmarks/memory.py --quick`` finds, on
fake tensors, so it is exact.

    python benchmarks/versions.py --before PYTHON [--rounds 5] [--compile-only]

``PYTHON`` is the interpreter of an environment in which the other version is installed,
editable, from a checkout of its own.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import timm
import torch
from common import spread, write
from rich.console import Console
from rich.table import Table

from fxtransport import transportify
from fxtransport.nets import resnet110
from fxtransport.objectives import Objective, lap, plain, trgl, vangl
from fxtransport.training import EndToEnd, Parallel, Schedule, Trainer, keep_freed_memory

LIMIT = 1.02
"""What no ratio may exceed, unless its spread covers it."""
COMPILED = ("resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_tiny")
BATCH, SIZE, STEPS = 64, 32, 6


def compile_seconds(name: str) -> float:
    """Processor time of compiling a model into four modules, without comparing numbers."""
    with torch.device("meta"):
        model = timm.create_model(name)
    start = time.process_time()
    transportify(model, modules=4, verify=False)
    return time.process_time() - start


def step_seconds(objective: Objective, modules: int) -> float:
    """Median processor time of a training step of ResNet-110."""
    torch.manual_seed(0)
    example = torch.empty(2, 3, SIZE, SIZE, device="meta")
    program = transportify(resnet110(num_classes=10), example, modules=modules, verify=False)
    schedule: Schedule = EndToEnd(1) if modules == 1 else Parallel(1)
    trainer = Trainer(program, objective, schedule)
    images, targets = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(10, (BATCH,))
    times = []
    for _ in range(STEPS + 2):
        start = time.process_time()
        trainer.step(images, targets)
        times.append(time.process_time() - start)
    # the first steps allocate memory
    return statistics.median(times[2:])


def measure(*, compile_only: bool) -> dict[str, float]:
    """All that one process measures, in seconds."""
    torch.set_num_threads(1)
    keep_freed_memory()
    compile_seconds(COMPILED[0])  # what torch loads lazily
    found = {f"compile {name}": compile_seconds(name) for name in COMPILED}
    if compile_only:
        return found
    found["step, plain"] = step_seconds(plain(), 1)
    found["step, LAP"] = step_seconds(lap(1.0, 0.1, 50), 1)
    found["step, VanGL, K=4"] = step_seconds(vangl(), 4)
    found["step, TRGL, K=4"] = step_seconds(trgl(0.5), 4)
    return found


def measured_by(python: str, *, compile_only: bool) -> dict[str, float]:
    """What another process measures with an interpreter."""
    command = [python, __file__, "--measure", *(["--compile-only"] if compile_only else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def memory_of(python: str) -> dict[str, float]:
    """MiB of training steps, by the version's own benchmark."""
    code = "import fxtransport; print(fxtransport.__file__)"
    # without the present folder, which may hold this version
    root = subprocess.run([python, "-P", "-c", code], check=True, capture_output=True, text=True)
    folder = Path(root.stdout.strip()).resolve().parent.parent / "benchmarks"
    written = folder / "results" / "memory.fake.json"
    before = written.read_text()
    command = [python, "memory.py", "--quick"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    result = json.loads(written.read_text())["results"][0]
    written.write_text(before)
    rows = {f"memory, {r['objective']}, {r['balance']}, K=4": r["mib"] for r in result["rows"]}
    # equally heavy parts were once called so
    named = {name.replace(", weight,", ", activations,"): mib for name, mib in rows.items()}
    return {"memory, end to end": result["end_to_end_mib"], **named}


def show(console: Console, ratios: dict[str, list[float]]) -> bool:
    """Print the ratios of this version over the other; returns whether all are met."""
    table = Table("", "this version over the other: median (range)", "met")
    all_met = True
    for name, found in ratios.items():
        met = statistics.median(found) <= LIMIT or min(found) <= 1 <= max(found)
        all_met &= met
        table.add_row(name, spread(found), "✓" if met else "✗")
    console.print(table)
    return all_met


@click.command()
@click.option("--before", metavar="PYTHON", help="The interpreter with the other version.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--compile-only", is_flag=True, help="Measure compiling only, and write nothing.")
@click.option("--measure", "is_child", is_flag=True, hidden=True)
def main(before: str | None, rounds: int, compile_only: bool, is_child: bool) -> None:
    """Measure, print and write what this version costs, over another."""
    if is_child:
        click.echo(json.dumps(measure(compile_only=compile_only)))
        return
    if before is None:
        raise click.UsageError("give --before, the interpreter with the other version")
    ours, theirs = ({}, {}) if compile_only else (memory_of(sys.executable), memory_of(before))
    ratios: dict[str, list[float]] = {}
    runs: list[dict[str, Any]] = []
    for number in range(rounds):
        order = (before, sys.executable) if number % 2 else (sys.executable, before)
        found = {python: measured_by(python, compile_only=compile_only) for python in order}
        runs.append({"this": found[sys.executable], "other": found[before]})
        for name, seconds in found[sys.executable].items():
            ratios.setdefault(name, []).append(seconds / found[before][name])
    for name, mib in ours.items():
        ratios[name] = [mib / theirs[name]]
    met = show(Console(width=140), ratios)
    click.echo(f"no ratio is worse than {LIMIT} outside its spread: {'yes' if met else 'no'}")
    if compile_only:
        return
    memory = {"this": ours, "other": theirs}
    path = write("versions", "cpu", {"ratios": ratios, "runs": runs, "memory": memory, "met": met})
    click.echo(f"written to {path.relative_to(path.parent.parent.parent)}")


if __name__ == "__main__":
    main()
