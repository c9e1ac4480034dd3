"""Attacks of foolbox that see nothing of the model but its decisions."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fxtransport.detection.attacks.attack import Attack, Goal, Pool
from fxtransport.detection.attacks.foolbox_attacks import (
    Norm,
    criterion,
    foolbox_model,
    import_foolbox,
)

DRAWS = 100
"""So many images of noise are tried before an attack begins at another clean image."""
HALVINGS = 10


class _ExhaustedError(Exception):
    """A model was asked too often."""


class _Limited(nn.Module):
    """A model that may be asked a number of times."""

    def __init__(self, model: nn.Module, queries: int) -> None:
        super().__init__()
        self.model = model
        self.left = queries
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        if self.left == 0:
            raise _ExhaustedError
        self.left -= 1
        logits: Tensor = self.model(images)
        return logits


class PerImage(nn.Module, ABC):
    """A model that treats each image of its batch in its own way."""

    @abstractmethod
    def take(self, rows: Tensor) -> "PerImage":
        """The model for some of the images, given by their indices."""


@dataclass(frozen=True)
class DecisionAttack(Attack):
    """An attack that begins at an image that reaches the goal, and comes closer.

    It begins at noise that the model takes for what is wanted, else at the nearest clean image
    that it does. Where there is neither, or foolbox gives up, the image is returned as NaN.
    """

    package: ClassVar[str] = "foolbox"
    can_target: ClassVar[bool] = True

    @abstractmethod
    def build(self, attacks: Any) -> Any:
        """The attack, made by the module ``foolbox.attacks``."""

    @abstractmethod
    def limit(self, image: Tensor) -> int:
        """How often the model may be asked, after which the attack is in a loop without end."""

    def perturb(self, model: nn.Module, images: Tensor, goal: Goal, pool: Pool) -> Tensor:
        """Attacked images, B×C×H×W; NaN where the attack cannot be run."""
        starts = find_starts(model, images, goal, pool)
        return self.approach(model, images, starts, goal)

    def approach(self, model: nn.Module, images: Tensor, starts: Tensor, goal: Goal) -> Tensor:
        """Come closer to images from others that reach the goal.

        Args:
            model: From images to logits; nothing but the largest is used. All images are given
                in their order, unless it is :class:`PerImage`, which is told which are left.
            images: B×C×H×W, which do not reach the goal.
            starts: B×C×H×W, which reach it, or NaN where there is none.
            goal: What is wanted.

        Returns:
            B×C×H×W; NaN where the attack cannot be run.
        """
        attacked = torch.full_like(images, math.nan)
        rows = starts.isfinite().flatten(1).all(1).nonzero().squeeze(1)
        if len(rows):
            own = _take(model, rows)
            attacked[rows] = self._approach(own, images[rows], starts[rows], goal.take(rows))
        return attacked

    def _approach(self, model: nn.Module, images: Tensor, starts: Tensor, goal: Goal) -> Tensor:
        try:
            return self._run(model, images, starts, goal)
        except (AssertionError, ValueError, _ExhaustedError):
            # one image stops the whole batch: numbers at its boundary depend on the batch
            if len(images) == 1:
                return torch.full_like(images, math.nan)
        rows = torch.arange(len(images), device=images.device).split(1)
        alone = [
            self._approach(_take(model, one), images[one], starts[one], goal.take(one))
            for one in rows
        ]
        return torch.cat(alone)

    def _run(self, model: nn.Module, images: Tensor, starts: Tensor, goal: Goal) -> Tensor:
        attack = self.build(import_foolbox().attacks)
        limited = foolbox_model(_Limited(model, self.limit(images[0])), images)
        found: Tensor
        with torch.no_grad():
            _, found, _ = attack(
                limited, images, criterion(goal), epsilons=None, starting_points=starts
            )
        return found


@dataclass(frozen=True)
class HopSkipJump(DecisionAttack):
    """HopSkipJump (Chen et al., 2020): gradients at the boundary, estimated from decisions.

    The published tables have 50 steps (THESIS 5.4), in the Euclidean norm.

    Args:
        norm: Of the change that is minimized.
        steps: How many.
        evaluations: Of the model for the first gradient; the k-th takes √k times as many.
        most_evaluations: Of the model for a gradient.
    """

    name: ClassVar[str] = "hsj"
    norm: Norm = "l2"
    steps: int = 50
    evaluations: int = 100
    most_evaluations: int = 10_000

    def build(self, attacks: Any) -> Any:
        """The attack."""
        return attacks.HopSkipJumpAttack(
            steps=self.steps,
            initial_gradient_eval_steps=self.evaluations,
            max_gradient_eval_steps=self.most_evaluations,
            constraint=self.norm,
        )

    def limit(self, image: Tensor) -> int:
        """Its evaluations, and room for its line searches, which halve float32 numbers."""
        gradients = sum(
            min(self.evaluations * math.sqrt(step + 1), self.most_evaluations)
            for step in range(self.steps)
        )
        return int(gradients) + 400 * (self.steps + 1)


@dataclass(frozen=True)
class Boundary(DecisionAttack):
    """The boundary attack (Brendel et al., 2018): a random walk along the boundary.

    The published tables have 5000 steps (THESIS 5.4).

    Args:
        steps: How many.
    """

    name: ClassVar[str] = "boundary"
    steps: int = 5000

    def build(self, attacks: Any) -> Any:
        """The attack."""
        return attacks.BoundaryAttack(steps=self.steps)

    def limit(self, image: Tensor) -> int:
        """Two evaluations a step at most."""
        return 2 * self.steps + 10

    def _run(self, model: nn.Module, images: Tensor, starts: Tensor, goal: Goal) -> Tensor:
        """From near the boundary: the walk itself comes closer slowly."""
        return super()._run(model, images, _bisect(model, images, starts, goal), goal)


def _take(model: nn.Module, rows: Tensor) -> nn.Module:
    return model.take(rows) if isinstance(model, PerImage) else model


def find_starts(model: nn.Module, images: Tensor, goal: Goal, pool: Pool) -> Tensor:
    """For each image one that reaches its goal, B×C×H×W; NaN where none is found."""
    starts = torch.full_like(images, math.nan)
    missing = torch.ones(len(images), dtype=torch.bool, device=images.device)
    for _ in range(DRAWS):
        noise = torch.rand_like(images)
        with torch.no_grad():
            new = goal.reached(model(noise).argmax(1)) & missing
        starts[new] = noise[new]
        missing &= ~new
        if not missing.any():
            return starts
    for row in missing.nonzero().squeeze(1).tolist():
        one = goal.take(torch.tensor([row], device=images.device))
        good = pool.images[one.reached(pool.predicted)]
        if len(good):
            starts[row] = good[(good - images[row]).flatten(1).norm(dim=1).argmin()]
    return starts


def _bisect(model: nn.Module, images: Tensor, starts: Tensor, goal: Goal) -> Tensor:
    """Images between those given and the starts, which reach the goal: B×C×H×W."""
    low, high = torch.zeros(2, len(images), *[1] * (images.dim() - 1), device=images.device)
    for _ in range(HALVINGS):
        middle = (low + high.where(high > 0, 1)) / 2
        with torch.no_grad():
            reached = goal.reached(model(images.lerp(starts, middle)).argmax(1))
        reached = reached.reshape(middle.shape)
        high, low = middle.where(reached, high), low.where(reached, middle)
    return images.lerp(starts, high).where(high > 0, starts)
