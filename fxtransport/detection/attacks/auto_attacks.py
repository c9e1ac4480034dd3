"""Attacks of pyautoattack: AutoPGD, Square, and their ensemble AutoAttack."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fxtransport.detection.attacks.attack import Attack, Goal, Pool
from fxtransport.detection.attacks.foolbox_attacks import Norm
from fxtransport.errors import UsageError

NORMS = {"linf": "Linf", "l2": "L2"}
CLASSES_OF_DLR = 4
"""The targeted loss of AutoAttack compares four logits."""


def import_autoattack() -> Any:
    """The module ``pyautoattack``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import pyautoattack
    except ImportError as error:
        raise UsageError(
            f"this attack is pyautoattack's, which cannot be imported ({error}): "
            "pip install 'fxtransport[attacks]'"
        ) from error
    return pyautoattack


@dataclass(frozen=True)
class _Bounded(Attack):
    """It returns the clean image where it does not reach the goal."""

    package: ClassVar[str] = "pyautoattack"
    can_target: ClassVar[bool] = False
    seeds_every_device: ClassVar[bool] = True

    epsilon: float = 0.03
    """The largest change, of a pixel (``linf``) or of the image's Euclidean norm (``l2``)."""
    norm: Norm = "linf"

    def _options(self, images: Tensor) -> dict[str, Any]:
        # what was seeded for this batch decides its seed
        seed = int(torch.randint(2**31, ()))
        return {
            "eps": self.epsilon,
            "norm": NORMS[self.norm],
            "seed": seed,
            "device": images.device,
        }


@dataclass(frozen=True)
class APGD(_Bounded):
    """AutoPGD (Croce and Hein, 2020): PGD that chooses its own step sizes.

    The published tables have 100 steps (THESIS 5.4).

    Args:
        epsilon: The largest change.
        norm: Of the change.
        steps: How many.
        loss: ``ce``, the cross-entropy, or ``dlr``, the difference of logits ratio, for three
            classes or more.
        restarts: How often it begins, at random places.
    """

    name: ClassVar[str] = "apgd"
    steps: int = 100
    loss: Literal["ce", "dlr"] = "ce"
    restarts: int = 1

    def perturb(self, model: nn.Module, images: Tensor, goal: Goal, pool: Pool) -> Tensor:
        """Attacked images, B×C×H×W."""
        import_autoattack()
        from pyautoattack.autopgd_base import APGDAttack

        attack = APGDAttack(
            model,
            n_iter=self.steps,
            n_restarts=self.restarts,
            loss=self.loss,
            **self._options(images),
        )
        attacked: Tensor = attack.perturb(images, goal.labels)
        return attacked


@dataclass(frozen=True)
class Square(_Bounded):
    """The Square attack (Andriushchenko et al., 2020): random squares, and logits alone.

    Args:
        epsilon: The largest change.
        norm: Of the change.
        queries: At most this many evaluations of the model for an image.
    """

    name: ClassVar[str] = "square"
    can_target: ClassVar[bool] = True
    queries: int = 5000

    def perturb(self, model: nn.Module, images: Tensor, goal: Goal, pool: Pool) -> Tensor:
        """Attacked images, B×C×H×W."""
        import_autoattack()
        from pyautoattack.square import SquareAttack

        attack = SquareAttack(
            model,
            n_queries=self.queries,
            targeted=goal.targets is not None,
            **self._options(images),
        )
        wanted = goal.labels if goal.targets is None else goal.targets
        attacked: Tensor = attack.perturb(images, wanted)
        return attacked


@dataclass(frozen=True)
class AutoAttack(_Bounded):
    """AutoAttack's standard version (Croce and Hein, 2020).

    AutoPGD on the cross-entropy, targeted AutoPGD, targeted FAB and Square, one after the
    other, each on the images that those before did not change the class of. With three classes
    or fewer the targeted AutoPGD is left out, whose loss compares four logits.

    Args:
        epsilon: The largest change.
        norm: Of the change.
        steps: Of AutoPGD and FAB.
        queries: Of Square, for an image.
    """

    name: ClassVar[str] = "autoattack"
    steps: int = 100
    queries: int = 5000

    def perturb(self, model: nn.Module, images: Tensor, goal: Goal, pool: Pool) -> Tensor:
        """Attacked images, B×C×H×W."""
        package = import_autoattack()
        from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

        with torch.no_grad():
            others = model(images[:1]).shape[1] - 1
        targeted = ["apgd-t"] if others + 1 >= CLASSES_OF_DLR else []
        options = self._options(images)
        attack = package.AutoAttack(
            model,
            attacks=["apgd-ce", *targeted, "fab-t", "square"],
            version="custom",
            **options,
        )
        attack.apgd = APGDAttack(model, n_iter=self.steps, **options)
        attack.apgd_targeted = APGDAttack_targeted(
            model, n_iter=self.steps, n_target_classes=min(9, others), **options
        )
        attack.fab.n_iter = self.steps
        attack.fab.n_target_classes = min(9, others)
        attack.square.n_queries = self.queries
        attacked: Tensor
        with _silent(attack.logger):
            attacked, _ = attack.run_standard_evaluation(
                images, goal.labels, batch_size=len(images)
            )
        return attacked


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Keep advice on defenses, which every batch would repeat, out of the log."""
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
