"""What an attack is: settings, and a way from clean images to attacked ones."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fxtransport.errors import UsageError


@dataclass(frozen=True, eq=False)
class Goal:
    """What an attack wants of images.

    Attributes:
        labels: The true classes, B, int64.
        targets: The classes that the model shall predict, B, int64; if None, any but the true
            one will do.
    """

    labels: Tensor
    targets: Tensor | None = None

    def reached(self, predicted: Tensor) -> Tensor:
        """Whether predicted classes are what is wanted: B, bool."""
        return predicted != self.labels if self.targets is None else predicted == self.targets

    def take(self, rows: Tensor) -> "Goal":
        """The goal for some of the images, given by their indices or a mask."""
        return Goal(self.labels[rows], None if self.targets is None else self.targets[rows])


@dataclass(frozen=True, eq=False)
class Pool:
    """Clean images, N×C×H×W, and the classes that the model predicts for them, N.

    An attack that sees decisions only may begin at one of them.
    """

    images: Tensor
    predicted: Tensor


@dataclass(frozen=True)
class Attack(ABC):
    """Settings of an attack, and what it does with a batch of images.

    The fields are the settings: numbers and texts, which are part of a cached set's name.

    Raises:
        UsageError: a setting is out of range.
    """

    name: ClassVar[str]
    """Its name on the command line and in tables."""
    package: ClassVar[str]
    """The package that it is taken from."""
    can_target: ClassVar[bool]
    """Whether it can make the model predict a given class."""
    skips_misclassified: ClassVar[bool] = True
    """Whether it returns an image as it is that is misclassified already. Others change such
    images too, which matters where all images are counted as attacked."""
    seeds_every_device: ClassVar[bool] = False
    """Whether its package sets the seeds of all accelerators."""

    def __post_init__(self) -> None:
        for own in fields(self):
            _check(self.name, own.name, getattr(self, own.name))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name: numbers, texts and booleans."""
        return asdict(self)

    @property
    def release(self) -> str:
        """The package that the attack is taken from, with its version."""
        return f"{self.package} {version(self.package)}"

    @abstractmethod
    def perturb(self, model: nn.Module, images: Tensor, goal: Goal, pool: Pool) -> Tensor:
        """Attacked images, B×C×H×W, from 0 to 1.

        The global generators are seeded, the model is in eval mode, and its weights need no
        gradients: :func:`~fxtransport.detection.attacks.attack_images` sees to it.

        Args:
            model: From images to logits, B×classes.
            images: B×C×H×W, float32, from 0 to 1; all are classified correctly where the attack
                skips others.
            goal: What is wanted.
            pool: All clean images of the set.
        """


def predict(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """The predicted class of each image, N, int64."""
    with torch.no_grad():
        return torch.cat([model(batch).argmax(1) for batch in images.split(batch_size)])


LIMITS: dict[str, tuple[float, float]] = {
    "epsilon": (0, 1),
    "steps": (1, 1_000_000),
    "relative_step": (0, 1),
    "overshoot": (0, 1),
    "search_steps": (1, 100),
    "learning_rate": (0, 10),
    "confidence": (0, 1000),
    "first_weight": (0, 1e10),
    "evaluations": (1, 1_000_000),
    "most_evaluations": (1, 1_000_000),
    "restarts": (1, 1000),
    "queries": (1, 1_000_000),
    "candidates": (2, 1_000_000),
    "gamma": (0, 1),
}
"""The least and the greatest value of each number; 0 itself is excluded where it is a scale."""
SCALES = ("epsilon", "relative_step", "learning_rate", "gamma", "first_weight")
CHOICES = {"norm": ("linf", "l2"), "loss": ("ce", "dlr")}


def _check(attack: str, name: str, value: Any) -> None:
    if name in CHOICES:
        if value not in CHOICES[name]:
            raise UsageError(f"{attack}: {name} is {' or '.join(CHOICES[name])}, not {value!r}")
        return
    if name not in LIMITS:
        return
    least, most = LIMITS[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most or (name in SCALES and value == 0):
        above = "above" if name in SCALES else "from"
        raise UsageError(f"{attack}: {name} is {above} {least:g} to {most:g}, not {value!r}")
