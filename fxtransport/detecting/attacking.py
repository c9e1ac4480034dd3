"""Attack the images of a split, and observe what becomes of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fxtransport.data import EvalStream
from fxtransport.detecting.senses import Senses
from fxtransport.detecting.source import BATCH
from fxtransport.detection import Observations
from fxtransport.detection.attacks import Attack, AttackedSet, PixelModel, attack_images
from fxtransport.detection.identity import Preprocessing
from fxtransport.detection.observed_attack import ObservedAttack
from fxtransport.errors import UsageError
from fxtransport.process import device_of
from fxtransport.program import Program
from fxtransport.randomness import derived_seed

Progress = Callable[[str, int, int], None]
"""Is told what is done, with how many images, and how many there are."""


def silent(what: str, done: int, count: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, eq=False)
class Labeled:
    """Images and their classes.

    Attributes:
        images: N×C×H×W, float32, pixels from 0 to 1.
        labels: N, int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def collect(stream: EvalStream, most: int | None, seed: int) -> Labeled:
    """The images of a split, or a seeded choice of them.

    Args:
        stream: Batches of pixels and classes.
        most: How many images at most; all if None.
        seed: By which they are chosen.
    """
    count = stream.num_samples
    order = torch.randperm(count, generator=torch.Generator().manual_seed(derived_seed(seed) >> 1))
    kept = torch.zeros(count, dtype=torch.bool)
    kept[order[:most]] = True
    images, labels, at = [], [], 0
    for batch, classes in stream:
        own = kept[at : at + len(classes)]
        images.append(batch[own])
        labels.append(classes[own])
        at += len(classes)
    return Labeled(torch.cat(images).clamp(0, 1), torch.cat(labels))


def pixel_model(program: Program, preprocessing: Preprocessing) -> PixelModel:
    """A program as attacks take it: of pixels, in eval mode."""
    model = PixelModel(program, preprocessing.mean, preprocessing.std)
    return model.to(device_of(program)).eval()


def attack_labeled(
    attack: Attack,
    program: Program,
    preprocessing: Preprocessing,
    given: Labeled,
    *,
    seed: int,
    count_all: bool = False,
    cache: Path | None = None,
    progress: Progress = silent,
) -> AttackedSet:
    """Attack images of pixels, or take them from a folder of images that were attacked before.

    Raises:
        UsageError: the attack cannot be run.
    """
    device = device_of(program)
    return attack_images(
        attack,
        pixel_model(program, preprocessing),
        given.images.to(device),
        given.labels.to(device),
        seed=seed,
        batch_size=BATCH,
        count_all=count_all,
        cache=cache,
        progress=lambda done, count: progress(attack.name, done, count),
    )


def observe(senses: Senses, images: Tensor) -> Observations:
    """What is observed of N images."""
    return senses.observe(images.split(BATCH))


def observe_attack(senses: Senses, attacked: AttackedSet, clean: Observations) -> ObservedAttack:
    """What is observed of attacked images, with what became of each."""
    return ObservedAttack.of(attacked, observe(senses, attacked.attacked), clean)


def check_classes(observed: Observations, names: Sequence[str]) -> None:
    """Check that a model has as many classes as its data.

    Raises:
        UsageError: it has others.
    """
    width = observed["logits"].shape[1]
    if width != len(names):
        raise UsageError(
            f"the model returns {width} logits, and the data has {len(names)} classes; "
            "take the data that the model was trained on"
        )
