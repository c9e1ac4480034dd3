"""Compile time of the zoo on the meta device, compared with plain torchvision tracing.

Every tenth model is built, traced by torchvision's tracer with timm's list of what not to trace,
and studied as ``fxtransport zoo`` does: residuals, boundaries, costs, three cuts, the program.
Times are CPU seconds; those of the compiler include building the model, those of the tracer do
not. Targets: a median under 1 s, and no model over 30 s.

    python benchmarks/zoo_time.py [--every 10] [--pattern '*']
"""

import gc
import statistics
import time
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import click
import torch
from common import write
from rich.console import Console
from rich.progress import track
from rich.table import Table
from timm.layers import get_notrace_functions, get_notrace_modules
from torch import nn
from torchvision.models.feature_extraction import NodePathTracer

from fxtransport.errors import MODEL_ERRORS, ModelNameError
from fxtransport.models import build, resolve
from fxtransport.names import list_models
from fxtransport.zoo.study import study

MEDIAN, MOST = 1.0, 30.0
SLOWEST = 10


@dataclass(frozen=True)
class Timing:
    """The times of one model."""

    model: str
    compiled: float
    """Seconds, including building the model."""
    refusal: str | None
    nodes: int | None
    traced: float | None
    """Seconds of torchvision's tracer; None if it cannot trace the model."""


def trace_seconds(model: nn.Module) -> float | None:
    """Seconds of one trace in eval mode; None if it fails."""
    tracer = NodePathTracer(
        leaf_modules=get_notrace_modules(), autowrap_functions=tuple(get_notrace_functions())
    )
    start = time.process_time()
    try:
        tracer.trace(model.eval())
    except (torch.fx.proxy.TraceError, *MODEL_ERRORS):
        return None
    return time.process_time() - start


def measure(name: str) -> Timing | None:
    """Both times of one model; None if it is quantized and cannot be built."""
    try:
        traced = trace_seconds(build(resolve(name), device="meta"))
    except ModelNameError:
        return None
    gc.collect()
    start = time.process_time()
    record = study(name)
    seconds = time.process_time() - start
    gc.collect()
    reason = None if record.refusal is None else record.refusal.kind
    return Timing(record.model, seconds, reason, record.nodes, traced)


def summary(timings: list[Timing]) -> dict[str, Any]:
    """Medians, maxima, and how many models each can trace."""
    compiled = [t.compiled for t in timings if t.refusal is None]
    traced = [t.traced for t in timings if t.traced is not None]
    ratios = [t.compiled / t.traced for t in timings if t.refusal is None and t.traced]
    return {
        "models": len(timings),
        "compiled": {"models": len(compiled), **_statistics(compiled)},
        "traced": {"models": len(traced), **_statistics(traced)},
        "ratio": _statistics(ratios),
        "targets": {"median": MEDIAN, "max": MOST},
    }


def _statistics(values: list[float]) -> dict[str, float]:
    lower, middle, upper = statistics.quantiles(values, n=4)
    return {
        "median": middle,
        "lower": lower,
        "upper": upper,
        "min": min(values),
        "max": max(values),
    }


def show(console: Console, timings: list[Timing], found: dict[str, Any]) -> None:
    """Print both tables."""
    table = Table("", "models", "median", "quartiles", "max", title="seconds of one core")
    for key in ("compiled", "traced", "ratio"):
        one = found[key]
        quartiles = f"{one['lower']:.3g}-{one['upper']:.3g}"
        cells = [f"{one['median']:.3g}", quartiles, f"{one['max']:.3g}"]
        table.add_row(key, str(one.get("models", "")), *cells)
    console.print(table)
    met = found["compiled"]["median"] <= MEDIAN and found["compiled"]["max"] <= MOST
    console.print(f"median at most {MEDIAN} s and none over {MOST} s: {'✓' if met else '✗'}")
    table = Table("slowest", "nodes", "compiled", "traced")
    for t in sorted(timings, key=lambda t: t.compiled, reverse=True)[:SLOWEST]:
        traced = "–" if t.traced is None else f"{t.traced:.2f}"
        table.add_row(t.model, str(t.nodes or "–"), f"{t.compiled:.2f}", traced)
    console.print(table)


@click.command()
@click.option("--every", default=10, show_default=True, help="Measure every N-th model.")
@click.option("--pattern", default="*", show_default=True, help="The models to choose from.")
def main(every: int, pattern: str) -> None:
    """Measure, print and write the times of compiling and tracing."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    measure("torchvision:resnet18")  # so that torch has loaded what it loads lazily
    gc.collect()
    gc.freeze()
    names = list_models(pattern)[::every]
    measured = [measure(name) for name in track(names, description="models")]
    timings = [t for t in measured if t is not None]
    found = summary(timings)
    show(Console(width=120), timings, found)
    path = write(
        "zoo_time", "cpu", {**found, "every": every, "timings": [asdict(t) for t in timings]}
    )
    click.echo(f"written to {path.relative_to(path.parent.parent.parent)}")


if __name__ == "__main__":
    main()
