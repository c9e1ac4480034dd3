"""Peak training memory, without a GPU: part by part against end to end.

The library's own training step is rehearsed on fake tensors, which have shapes and no data, and
what is alive is added up: parameters, gradients, optimizer state, activations and temporary
tensors. Nothing is allocated, so the figures are the same on every machine. They include what
oneDNN's convolutions copy on a CPU. ``benchmarks/plan.py`` compares such figures with the
allocator's.

With ``--device cpu`` real processes train ResNet-110, and their memory stands beside: what torch's
allocator holds at most, and what the system says is resident, above imports (``resident.py``).

    python benchmarks/memory.py [--quick] [--device cpu]
"""

from collections.abc import Callable
from typing import Any

import click
import timm
import torch
from common import write
from resident import SIZE, allocators, measured
from rich.console import Console
from rich.table import Table
from torch import nn

from fxtransport import Program, transportify
from fxtransport.nets import resnet110
from fxtransport.objectives import Objective, TransportCost, trgl, vangl
from fxtransport.training import EndToEnd, Parallel, Schedule
from fxtransport.training.memory import step_memory

MIB = 2**20
BATCH, CLASSES = 64, 10
PUBLISHED = {("depth", 4): 24, ("depth", 8): 48, ("depth", 16): 58, ("activations", 4): 39}
"""Percent saved by TRGL on ResNet-110, STL10, batch 64 (THESIS 4.5.3, tables 9 and 10)."""
TARGETS = {
    ("depth", 4): 51,
    ("depth", 8): 73,
    ("depth", 16): 83,
    ("activations", 4): 68,
    ("activations", 8): 80,
    ("activations", 16): 86,
}
POINTS = 2
"""How many points less TRGL may save than VanGL, which measures no residue.

Displacements need a gradient of both x_m and x_{m+1}: one more tensor, which a branch does not
need.
"""
OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "VanGL": vangl,
    "TRGL": lambda: trgl(0.5),
    "TRGL, displacement": lambda: trgl(0.5, cost=TransportCost(residue="displacement")),
}
OTHERS = ("swin_tiny_patch4_window7_224", "vit_small_patch16_224", "resnet50")


def peak(program: Program, schedule: Schedule, make_objective: Callable[[], Objective]) -> int:
    """The peak of a training step of the parts of a schedule, in bytes."""
    return step_memory(program, make_objective(), schedule, batch_size=BATCH).peak_bytes


def compile_model(build: Callable[[], nn.Module], size: int, modules: int, balance: str) -> Program:
    """A program of a model, cut for the benchmark's batch size."""
    example = torch.empty(2, 3, size, size, device="meta")
    return transportify(
        build(), example, modules=modules, balance=balance, batch_size=BATCH, verify=False
    )


def measure(
    name: str, build: Callable[[], nn.Module], size: int, cuts: list[tuple[str, int]]
) -> dict[str, Any]:
    """End to end, and every partition under every objective: MiB, and percent saved."""
    whole = compile_model(build, size, 1, "depth")
    end_to_end = peak(whole, EndToEnd(1), vangl)
    rows = []
    for balance, modules in cuts:
        program = compile_model(build, size, modules, balance)
        for objective, make in OBJECTIVES.items():
            found = peak(program, Parallel(1), make)
            rows.append(
                {
                    "balance": balance,
                    "modules": modules,
                    "objective": objective,
                    "mib": round(found / MIB, 1),
                    "saved": round(100 * (1 - found / end_to_end), 1),
                }
            )
    return {"model": name, "size": size, "end_to_end_mib": round(end_to_end / MIB, 1), "rows": rows}


def show(console: Console, result: dict[str, Any], published: bool) -> bool:
    """Print a model's table; returns whether all targets are met."""
    title = (
        f"{result['model']}, {result['size']}×{result['size']}, batch {BATCH}: "
        f"{result['end_to_end_mib']:.0f} MiB end to end"
    )
    table = Table("balance", "K", *OBJECTIVES, "published", "target", "met", title=title)
    all_met = True
    by_cut: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for row in result["rows"]:
        by_cut.setdefault((row["balance"], row["modules"]), {})[row["objective"]] = row
    for cut, rows in by_cut.items():
        saved = {name: row["saved"] for name, row in rows.items()}
        target = TARGETS[cut] if published else None
        met = saved["VanGL"] - min(saved.values()) <= POINTS
        met = met and (target is None or saved["TRGL"] >= target)
        all_met &= met
        table.add_row(
            cut[0],
            str(cut[1]),
            *(f"{rows[name]['mib']:.0f} MiB, -{saved[name]:.0f} %" for name in OBJECTIVES),
            f"-{PUBLISHED[cut]} %" if published and cut in PUBLISHED else "",
            f"within {POINTS} of VanGL" + (f", ≥ {target} %" if target else ""),
            "✓" if met else "✗",
        )
    console.print(table)
    return all_met


PROCESSES = (*TARGETS, ("memory", 4))
"""The cuts of which real processes are measured."""
POINTS_RESIDENT = 5
"""How many points less resident memory may save than tensors do."""


def processes(quick: bool) -> list[dict[str, Any]]:
    """For end to end and each cut, the MiB of tensors, of torch's allocator and of processes."""
    build = lambda: resnet110(num_classes=CLASSES)  # noqa: E731
    cuts = [("depth", 1), *(cut for cut in PROCESSES if cut[1] == 4 or not quick)]
    rows = []
    for balance, modules in cuts:
        program = compile_model(build, SIZE, modules, balance)
        schedule: Schedule = EndToEnd(1) if modules == 1 else Parallel(1)
        objective = OBJECTIVES["VanGL" if modules == 1 else "TRGL"]
        row: dict[str, Any] = {"balance": balance, "modules": modules}
        row["tensors"] = {"mib": peak(program, schedule, objective, SIZE) / MIB}
        found = measured(modules, balance, None)
        row["torch's allocator"] = {"mib": found["allocator_mib"]}
        for allocator in allocators():
            found = measured(modules, balance, allocator)
            assert found["jemalloc"] == allocator.startswith("jemalloc")
            row[allocator] = {"mib": found["resident_mib"], "seconds": found["step_seconds"]}
        rows.append(row)
    for row in rows:
        for kind, figures in row.items():
            if isinstance(figures, dict):
                figures["saved"] = 100 * (1 - figures["mib"] / rows[0][kind]["mib"])
    return rows


def show_processes(console: Console, rows: list[dict[str, Any]]) -> bool:
    """Print what processes take; returns whether they save as much as tensors do."""
    kinds = [kind for kind, figures in rows[0].items() if isinstance(figures, dict)]
    title = f"resnet110, {SIZE}×{SIZE}, batch {BATCH}: MiB, saved, seconds of a step"
    table = Table("balance", "K", *kinds, "met", title=title)
    all_met = True
    for row in rows:
        least = row["tensors"]["saved"] - POINTS_RESIDENT
        met = row[kinds[-1]]["saved"] >= least
        all_met &= met
        cells = [_cell(row[kind]) for kind in kinds]
        table.add_row(row["balance"], str(row["modules"]), *cells, "✓" if met else "✗")
    console.print(table)
    return all_met


def _cell(figures: dict[str, float]) -> str:
    seconds = f", {figures['seconds']:.1f} s" if "seconds" in figures else ""
    return f"{figures['mib']:.0f}, -{figures['saved']:.0f} %{seconds}"


@click.command()
@click.option("--quick", is_flag=True, help="ResNet-110 in 4 modules only.")
@click.option("--device", default="fake", type=click.Choice(["fake", "cpu"]), show_default=True)
def main(quick: bool, device: str) -> None:
    """Measure, print and write the peak memory of training."""
    console = Console(width=160)
    if device == "cpu":
        rows = processes(quick)
        met = show_processes(console, rows)
        last = f"with {allocators()[-1]} processes save what tensors do, but for"
        click.echo(f"{last} {POINTS_RESIDENT} points: {'yes' if met else 'no'}")
        path = write("memory", "cpu", {"results": rows, "met": met})
        click.echo(f"written to {path.relative_to(path.parent.parent.parent)}")
        return
    cuts = [cut for cut in TARGETS if cut[1] == 4] if quick else list(TARGETS)
    results = [measure("resnet110", lambda: resnet110(num_classes=CLASSES), 96, cuts)]
    met = show(console, results[0], published=True)
    for name in () if quick else OTHERS:
        build = lambda name=name: timm.create_model(name, num_classes=CLASSES)  # noqa: E731
        results.append(measure(name, build, 224, [("depth", 4), ("activations", 4)]))
        met &= show(console, results[-1], published=False)
    click.echo(f"all targets are met: {'yes' if met else 'no'}")
    path = write("memory", "fake", {"results": results, "met": met})
    click.echo(f"written to {path.relative_to(path.parent.parent.parent)}")


if __name__ == "__main__":
    main()
