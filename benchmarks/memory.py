"""Peak training memory, without a GPU: part by part against end to end.

The library's own training step is rehearsed on fake tensors, which have shapes and no data, and
what is alive is added up: parameters, gradients, optimizer state, activations and temporary
tensors. Nothing is allocated, so the figures are the same on every machine. They include what
oneDNN's convolutions copy on a CPU. ``benchmarks/plan.py`` compares such figures with the
allocator's.

    python benchmarks/memory.py [--quick]
"""

from collections.abc import Callable
from typing import Any

import click
import timm
import torch
from common import write
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


@click.command()
@click.option("--quick", is_flag=True, help="ResNet-110 in 4 modules only.")
def main(quick: bool) -> None:
    """Measure, print and write the peak memory of training."""
    console = Console(width=160)
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
