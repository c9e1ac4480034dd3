"""What compiling costs: ``fxtransport split`` against importing and building alone.

Wall times of whole processes, in alternation, so that a busy machine slows both: the ratio
is what counts. Targets: at most 1.3 without verification, 2.0 with; ``--help`` in 0.5 s.

    python benchmarks/compile_time.py [--device cuda] [--repeats 7]
"""

import statistics
import subprocess
import sys
from typing import Any

import click
import torch
from common import seconds, spread, write
from rich.console import Console
from rich.table import Table

from fxtransport.compiler import compile_passes, compile_program
from fxtransport.example_inputs import example_of
from fxtransport.ir import Balance
from fxtransport.models import build, input_spec, resolve
from fxtransport.passes.pipeline import PassRun

MODEL = "swin_tiny_patch4_window7_224"
BASELINE = [sys.executable, "-c", f"import torch, timm; timm.create_model({MODEL!r})"]
SPLIT = [sys.executable, "-c", "from fxtransport.cli.main import main; main()"]
SPLIT += ["split", "swin_tiny", "--modules", "4", "--equal-weight"]
TARGETS = {"no-verify": 1.3, "verify": 2.0}
HELP = [sys.executable, "-c", "from fxtransport.cli.main import main; main()", "--help"]
GRAPHS = (
    "resnet18 resnet50 vit_tiny swin_tiny convnext_tiny efficientnet_b0 levit_128 "
    "maxvit_tiny_tf_224 torchvision:swin_t torchvision:densenet121"
).split()


def process_seconds(command: list[str]) -> float:
    """Wall time of a process that must succeed."""
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True))


def measure_ratios(repeats: int) -> dict[str, Any]:
    """Ratios of the whole command to import and build, pair by pair."""
    process_seconds(BASELINE)  # files into memory
    process_seconds(SPLIT)
    pairs: dict[str, list[float]] = {"no-verify": [], "verify": []}
    times: dict[str, list[float]] = {"baseline": [], "no-verify": [], "verify": [], "help": []}
    for _ in range(repeats):
        base = process_seconds(BASELINE)
        plain = process_seconds([*SPLIT, "--no-verify"])
        verified = process_seconds(SPLIT)
        times["baseline"].append(base)
        times["no-verify"].append(plain)
        times["verify"].append(verified)
        times["help"].append(process_seconds(HELP))
        pairs["no-verify"].append(plain / base)
        pairs["verify"].append(verified / base)
    return {"ratios": pairs, "seconds": times, "targets": TARGETS}


def measure_passes(name: str, device: str) -> dict[str, Any]:
    """Graph size and milliseconds of each pass for one model."""
    spec = resolve(name)
    model = build(spec, device="meta" if device == "cpu" else device)
    shape = input_spec(model, spec).shape
    example = example_of(model, torch.empty(2, *shape, device="meta"))
    passes = compile_passes(modules=4, balance=Balance.ACTIVATIONS, verify=device != "cpu")
    runs: list[PassRun] = []
    program = compile_program(model, example, passes, observe=runs.append)
    return {
        "model": spec.canonical,
        "nodes": len(program.facts.graph.nodes),
        "milliseconds": {r.name: round(1000 * r.seconds, 1) for r in runs},
    }


def show(console: Console, results: dict[str, Any], graphs: list[dict[str, Any]]) -> None:
    """Print both tables."""
    table = Table("", "median (range)", "target", title="over import torch, timm and building")
    for kind, ratios in results["ratios"].items():
        limit = results["targets"][kind]
        met = "✓" if statistics.median(ratios) <= limit else "✗"
        table.add_row(f"split --{kind}", spread(ratios), f"≤ {limit} {met}")
    for kind, times in results["seconds"].items():
        table.add_row(f"{kind}, seconds", spread(times), "≤ 0.5" if kind == "help" else "")
    console.print(table)
    names = list(dict.fromkeys(name for g in graphs for name in g["milliseconds"]))
    table = Table("model", "nodes", *names, "total", title="milliseconds by pass")
    for g in graphs:
        times = g["milliseconds"]
        cells = [f"{times[n]:.0f}" if n in times else "" for n in names]
        table.add_row(g["model"], str(g["nodes"]), *cells, f"{sum(times.values()):.0f}")
    console.print(table)


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--repeats", default=7, show_default=True)
def main(device: str, repeats: int) -> None:
    """Measure, print and write what compiling costs."""
    measure_passes(GRAPHS[0], device)  # what torch loads lazily
    graphs = [measure_passes(name, device) for name in GRAPHS]
    results = measure_ratios(repeats)
    show(Console(width=160), results, graphs)
    path = write("compile_time", device, {**results, "graphs": graphs})
    click.echo(f"written to {path.relative_to(path.parent.parent.parent)}")


if __name__ == "__main__":
    main()
