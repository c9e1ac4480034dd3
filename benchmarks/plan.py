"""Predicted peaks of training against the allocator's own, end to end and in four parts.

The prediction rehearses a step on tensors without data. The truth is a real step, the second one:
on the CPU the memory events of torch's profiler, beside what is held before; on CUDA
``max_memory_allocated``. The real steps of each model run in a process of their own. Batches are
chosen so that none needs more than 3 GiB.

    python benchmarks/plan.py [--device cuda] [--checkpoint] [--only NAME …]

With ``--checkpoint`` the residual blocks are computed again in the backward pass. With ``--only``
the other models' results are kept as they were.
"""

import gc
import json
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import click
import torch
from allocated import allocated_peak
from common import RESULTS, write
from rich.console import Console
from rich.table import Table

from fxtransport.analysis.blocks import block_regions
from fxtransport.ir import Balance, Boundary
from fxtransport.planner import Planner, Training
from fxtransport.planning import make_training
from fxtransport.targets import open_target
from fxtransport.training import EndToEnd, Trainer

MIB = 2**20
BOUND = {"cpu": 3.0, "cuda": 10.0}
"""Percent by which a prediction may miss the truth."""
MODULES = 4
EVERY_MODULES_SECONDS = {"swin_tiny_patch4_window7_224": 10, "nets:resnet110": 60}
"""Goals for the time of a plan with every number of parts."""


class Case(NamedTuple):
    """A model, and how it is trained."""

    model: str
    size: int
    batch_size: int


CASES = (
    Case("nets:resnet110", 96, 16),
    Case("vit_small_patch16_224", 224, 16),
    Case("swin_tiny_patch4_window7_224", 224, 8),
    Case("resnet50", 224, 16),
    Case("convnext_tiny", 224, 8),
    Case("resnet18", 64, 64),
    Case("efficientnet_b0", 128, 16),
    Case("regnety_004", 128, 16),
    Case("densenet121", 96, 16),
    Case("mixer_s32_224", 224, 16),
)
MODELS = [case.model for case in CASES]


def training_of(device: str, checkpoint: bool) -> Training:
    """How every model is trained."""
    training = make_training("trgl", "momentum", None, device)
    settings = replace(training.settings, checkpoint_activations=checkpoint)
    return replace(training, settings=settings)


def real_peaks(
    case: Case, device: str, partitions: list[tuple[str, ...]], checkpoint: bool
) -> list[int]:
    """The allocator's peak in the second step, by each partition."""
    torch.set_num_threads(1)
    return [real_peak(case, device, cuts, checkpoint) for cuts in partitions]


def real_peak(case: Case, device: str, cuts: tuple[str, ...], checkpoint: bool) -> int:
    """The allocator's peak in the second step."""
    training = training_of(device, checkpoint)
    target = open_target(case.model, input_size=case.size)
    planner = Planner(target, {}, training, case.batch_size)
    program = planner.program(_boundaries(planner, cuts)).to(device)
    schedule = training.schedule if cuts else EndToEnd(1)
    objective = training.objective if cuts else training.whole
    assert objective is not None
    trainer = Trainer(program, objective(len(cuts) + 1), schedule, settings=training.settings)
    images = torch.randn(case.batch_size, *program.facts.example.tensors[0].shape[1:])
    images, targets = images.to(device), torch.zeros(case.batch_size, dtype=torch.int64).to(device)
    trainer.step(images, targets)
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        trainer.step(images, targets)
        return int(torch.cuda.max_memory_allocated())
    return allocated_peak(program, trainer, images, targets)


def _boundaries(planner: Planner, cuts: tuple[str, ...]) -> tuple[Boundary, ...]:
    from fxtransport.analysis.hand_cuts import place_cuts

    return place_cuts(planner.unit, cuts)


def measure(case: Case, device: str, checkpoint: bool) -> list[dict[str, Any]]:
    """Predictions and truths, end to end and in parts; none if nothing can be checkpointed."""
    training = training_of(device, checkpoint)
    target = open_target(case.model, input_size=case.size, device="meta")
    started = time.perf_counter()
    planner = Planner(target, {}, training, case.batch_size)
    if checkpoint and not block_regions(planner.unit):
        return []
    whole = planner.end_to_end.peak_bytes
    rows = list(planner.rows())
    seconds = time.perf_counter() - started
    balanced = [r for r in rows if r.modules == MODULES]
    chosen = [r for r in balanced if r.balance in (Balance.DEPTH, Balance.MEMORY)]
    pairs = [("end to end", (), whole)]
    pairs += [(str(r.balance), planner.names(r.cuts), r.peak_bytes) for r in chosen]
    partitions = [cuts for _, cuts, _ in pairs]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        truths = process.submit(real_peaks, case, device, partitions, checkpoint).result()
    found = []
    for (balance, cuts, predicted), truth in zip(pairs, truths, strict=True):
        found.append(
            {
                "model": case.model,
                "size": case.size,
                "batch_size": case.batch_size,
                "modules": len(cuts) + 1,
                "balance": balance,
                "predicted_mib": round(predicted / MIB, 1),
                "measured_mib": round(truth / MIB, 1),
                "error_percent": round(100 * (predicted / truth - 1), 2),
                "plan_seconds": round(seconds, 1),
                "plan_rows": len(rows),
            }
        )
    return found


def kept(name: str, device: str, again: Sequence[str]) -> list[dict[str, Any]]:
    """Results that were written before, but for models that are measured again."""
    path = RESULTS / f"{name}.{device}.json"
    written = json.loads(path.read_text())["results"] if again and path.exists() else []
    return [row for row in written if row["model"] not in again]


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--checkpoint", is_flag=True, help="Compute residual blocks again.")
@click.option("--only", multiple=True, help="These models; results of others are kept.")
def main(device: str, checkpoint: bool, only: tuple[str, ...]) -> None:
    """Predict, measure, write and print peaks of training."""
    console = Console(width=140)
    name = "plan_checkpointed" if checkpoint else "plan"
    results = kept(name, device, only)
    for case in CASES:
        if only and case.model not in only:
            continue
        found = measure(case, device, checkpoint)
        if not found:
            console.print(case.model, "has no residual blocks")
            continue
        results += found
        results.sort(key=lambda row: MODELS.index(row["model"]))
        worst = max(abs(row["error_percent"]) for row in results)
        met = worst <= BOUND[device]
        path = write(name, device, {"results": results, "worst_percent": worst, "met": met})
        console.print(path.name, case)
    columns = ("model", "batch_size", "modules", "balance")
    numbers = ("predicted_mib", "measured_mib", "error_percent", "plan_seconds", "plan_rows")
    table = Table(*columns, *numbers, title=f"predicted and measured peaks, {device}")
    for row in results:
        table.add_row(*(str(row[key]) for key in (*columns, *numbers)))
    console.print(table)
    click.echo(f"worst {worst} %, bound {BOUND[device]} %: {'met' if met else 'not met'}")


if __name__ == "__main__":
    main()
