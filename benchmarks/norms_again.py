"""What it saves to compute norms and activations again, and the time that it takes.

    python benchmarks/norms_again.py [--device cuda] [--rounds 8] [--model NAME ...]

Models of timm are trained end to end by SGD with momentum: as they are, with norms and activations
that are computed again (``recompute_norms``), and with residual blocks that are
(``checkpoint_activations``). Memory is what the allocator holds at most in a step. In every round
each makes one step on the same batch, in a random order, and ratios of time are taken round by
round; on the CPU of processor time, of one thread, with freed memory kept. All must have the same
weights in the end, bit for bit.
"""

import copy
import random
import statistics
from typing import NamedTuple

import click
import timm
import torch
from allocated import allocated_peak
from common import write
from rich.console import Console
from rich.table import Table
from training_cost import quartiles, time_step

from fxtransport import Program, transportify
from fxtransport.objectives import plain
from fxtransport.training import EndToEnd, Trainer, TrainerSettings, keep_freed_memory

MIB = 2**20
CLASSES = 10
WAYS = {
    "kept": TrainerSettings(),
    "norms": TrainerSettings(recompute_norms=True),
    "blocks": TrainerSettings(checkpoint_activations=True),
}


class Model(NamedTuple):
    """What is trained."""

    size: int
    """Height and width of the images."""
    batch: int


MODELS = {
    "resnet18": Model(96, 32),
    "resnet50": Model(96, 16),
    "resnext50_32x4d": Model(96, 16),
    "regnety_004": Model(96, 16),
    "efficientnet_b0": Model(96, 16),
    "mobilenetv3_large_100": Model(96, 16),
    "convnext_atto": Model(96, 16),
    "vit_tiny_patch16_224": Model(224, 8),
    "swin_tiny_patch4_window7_224": Model(224, 4),
    "mixer_s32_224": Model(224, 16),
}


class Found(NamedTuple):
    """What one way to train takes."""

    peak_mib: float
    ratios: list[float]
    """Of a step's time, over that of the same step with all kept."""


def measure(name: str, device: str, rounds: int) -> dict[str, Found]:
    """All ways to train a model.

    Raises:
        ClickException: their weights differ in the end.
    """
    size, batch = MODELS[name]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=CLASSES).to(device)
    example = torch.empty(2, 3, size, size, device="meta")
    programs: dict[str, Program] = {}
    trainers: dict[str, Trainer] = {}
    for way, settings in WAYS.items():
        programs[way] = transportify(copy.deepcopy(model), example, verify=False)
        trainers[way] = Trainer(programs[way], plain(), EndToEnd(1), settings=settings)
    images = torch.randn(batch, 3, size, size, device=device)
    targets = torch.randint(CLASSES, (batch,), device=device)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    order = random.Random(0)
    for turn in range(-1, rounds):
        for way in order.sample([*WAYS], len(WAYS)):
            torch.manual_seed(turn)
            found = time_step(trainers[way], images, targets)
            if turn >= 0:  # the first one allocates
                seconds[way].append(found.wall if device == "cuda" else found.processor)
    states = [program.state_dict() for program in programs.values()]
    if device == "cpu" and any(_differ(states[0], other) for other in states[1:]):
        raise click.ClickException(f"{name}: the weights are not the same in the end")
    return {
        way: Found(
            allocated_peak(programs[way], trainers[way], images, targets) / MIB,
            [a / b for a, b in zip(seconds[way], seconds["kept"], strict=True)],
        )
        for way in WAYS
    }


def _differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(one[name], other[name]) for name in one)


def table_of(results: dict[str, dict[str, Found]]) -> Table:
    """Memory and time of all models."""
    columns = ("MiB", "norms again: MiB", "step", "blocks again: MiB", "step")
    table = Table("model", "size", "batch", *columns)
    for name, found in results.items():
        kept = found["kept"].peak_mib
        cells = []
        for way in ("norms", "blocks"):
            peak, ratios = found[way]
            cells += [f"{peak:.0f}, −{100 * (1 - peak / kept):.0f} %", quartiles(ratios)]
        table.add_row(name, *map(str, MODELS[name]), f"{kept:.0f}", *cells)
    return table


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--rounds", default=8, show_default=True, type=click.IntRange(min=2))
@click.option("--model", "names", multiple=True, type=click.Choice([*MODELS]), default=[*MODELS])
def main(device: str, rounds: int, names: tuple[str, ...]) -> None:
    """Measure, print and write what recomputing norms saves and takes."""
    if device == "cpu" and not keep_freed_memory():
        raise click.ClickException("freed memory cannot be kept: see keep_freed_memory")
    torch.set_num_threads(1)
    results: dict[str, dict[str, Found]] = {}
    for name in names:
        results[name] = measure(name, device, rounds)
        medians = {way: statistics.median(found.ratios) for way, found in results[name].items()}
        click.echo(f"{name}: {medians}", err=True)
    Console(width=140).print(table_of(results))
    rows = {
        name: {way: each._asdict() for way, each in found.items()}
        for name, found in results.items()
    }
    write("norms_again", device, rows)


if __name__ == "__main__":
    main()
