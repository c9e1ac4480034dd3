"""Attacks of foolbox that follow gradients."""

import os
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from fxtransport.detection.attacks.attack import Attack, Goal, Pool
from fxtransport.errors import UsageError

Norm = Literal["linf", "l2"]


def import_foolbox() -> Any:
    """The module ``foolbox``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        with _quiet_import():
            import foolbox
    except ImportError as error:
        raise UsageError(
            f"this attack is foolbox's, which cannot be imported ({error}): "
            "pip install 'fxtransport[attacks]'"
        ) from error
    return foolbox


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Its import of a name that scipy moved warns; its import of git fails where git is not."""
    name = "GIT_PYTHON_REFRESH"
    before = os.environ.get(name)
    os.environ[name] = before or "quiet"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Please import `gaussian_filter`", category=DeprecationWarning
            )
            yield
    finally:
        if before is None:
            del os.environ[name]


def foolbox_model(model: nn.Module, images: Tensor) -> Any:
    """A model as foolbox takes it: pixels from 0 to 1, where the images are."""
    return import_foolbox().PyTorchModel(model, bounds=(0, 1), device=images.device)


def criterion(goal: Goal) -> Any:
    """What foolbox calls a goal."""
    foolbox = import_foolbox()
    if goal.targets is None:
        return foolbox.Misclassification(goal.labels)
    return foolbox.TargetedMisclassification(goal.targets)


@dataclass(frozen=True)
class FoolboxAttack(Attack):
    """An attack of foolbox that needs nothing but a model, images and a criterion."""

    package: ClassVar[str] = "foolbox"
    can_target: ClassVar[bool] = True

    @property
    def bound(self) -> float | None:
        """The largest change; None where the attack looks for the smallest one."""
        return None

    @abstractmethod
    def build(self, attacks: Any) -> Any:
        """The attack, made by the module ``foolbox.attacks``."""

    def perturb(self, model: nn.Module, images: Tensor, goal: Goal, pool: Pool) -> Tensor:
        """Attacked images, B×C×H×W; those of a bounded attack are within the bound."""
        attack = self.build(import_foolbox().attacks)
        _, clipped, _ = attack(
            foolbox_model(model, images), images, criterion(goal), epsilons=self.bound
        )
        attacked: Tensor = clipped
        return attacked


@dataclass(frozen=True)
class _Bounded(FoolboxAttack):
    epsilon: float = 0.03
    """The largest change, of a pixel (``linf``) or of the image's Euclidean norm (``l2``)."""
    norm: Norm = "linf"

    skips_misclassified: ClassVar[bool] = False

    @property
    def bound(self) -> float:
        """The largest change."""
        return self.epsilon


@dataclass(frozen=True)
class FGM(_Bounded):
    """The fast gradient method: one step of size ε along the gradient or its sign.

    Goodfellow et al., 2015. The published tables have ε = 0.03 (THESIS 5.4).
    """

    name: ClassVar[str] = "fgm"

    def build(self, attacks: Any) -> Any:
        """One iteration of BIM, which is the same and can be targeted."""
        kinds = {
            "linf": attacks.LinfBasicIterativeAttack,
            "l2": attacks.L2BasicIterativeAttack,
        }
        return kinds[self.norm](rel_stepsize=1.0, steps=1)


@dataclass(frozen=True)
class BIM(_Bounded):
    """The basic iterative method: FGM in several steps (Kurakin et al., 2017).

    Args:
        epsilon: The largest change.
        norm: Of the change.
        steps: How many steps.
        relative_step: The size of a step as a share of ε.
    """

    name: ClassVar[str] = "bim"
    steps: int = 10
    relative_step: float = 0.2

    def build(self, attacks: Any) -> Any:
        """The attack."""
        kinds = {
            "linf": attacks.LinfBasicIterativeAttack,
            "l2": attacks.L2BasicIterativeAttack,
        }
        return kinds[self.norm](rel_stepsize=self.relative_step, steps=self.steps)


@dataclass(frozen=True)
class PGD(_Bounded):
    """Projected gradient descent from a random place within ε (Madry et al., 2018).

    Args:
        epsilon: The largest change.
        norm: Of the change.
        steps: How many steps.
        relative_step: The size of a step as a share of ε.
    """

    name: ClassVar[str] = "pgd"
    steps: int = 40
    relative_step: float = 0.1

    def build(self, attacks: Any) -> Any:
        """The attack."""
        kinds = {
            "linf": attacks.LinfProjectedGradientDescentAttack,
            "l2": attacks.L2ProjectedGradientDescentAttack,
        }
        return kinds[self.norm](
            rel_stepsize=self.relative_step, steps=self.steps, random_start=True
        )


@dataclass(frozen=True)
class DeepFool(FoolboxAttack):
    """DeepFool: steps to the nearest boundary of the linearized model.

    Moosavi-Dezfooli et al., 2016. The published tables have 100 steps (THESIS 5.4).

    Args:
        norm: Of the change that is minimized.
        steps: At most this many.
        overshoot: How far beyond the boundary, as a share of the step.
        candidates: How many of the likeliest classes are considered.
    """

    name: ClassVar[str] = "deepfool"
    can_target: ClassVar[bool] = False
    norm: Norm = "linf"
    steps: int = 100
    overshoot: float = 0.02
    candidates: int = 10

    def build(self, attacks: Any) -> Any:
        """The attack."""
        kinds = {"linf": attacks.LinfDeepFoolAttack, "l2": attacks.L2DeepFoolAttack}
        return kinds[self.norm](
            steps=self.steps, overshoot=self.overshoot, candidates=self.candidates
        )


@dataclass(frozen=True)
class CW(FoolboxAttack):
    """Carlini and Wagner's attack in the Euclidean norm (2017).

    The published tables have 10 iterations of it (THESIS 5.4).

    Args:
        search_steps: Steps of the binary search over the weight of the model's loss, which is
            ten times as large in each step until the attack succeeds.
        steps: Iterations of Adam for each.
        learning_rate: Of Adam.
        confidence: By how much the wrong class must lead.
        first_weight: The weight to begin with. With few search steps, begin higher.
    """

    name: ClassVar[str] = "cw"
    search_steps: int = 9
    steps: int = 100
    learning_rate: float = 0.05
    confidence: float = 0.0
    first_weight: float = 0.001

    def build(self, attacks: Any) -> Any:
        """The attack."""
        return attacks.L2CarliniWagnerAttack(
            binary_search_steps=self.search_steps,
            steps=self.steps,
            stepsize=self.learning_rate,
            confidence=self.confidence,
            initial_const=self.first_weight,
        )

    def perturb(self, model: nn.Module, images: Tensor, goal: Goal, pool: Pool) -> Tensor:
        """Attacked images, B×C×H×W; the clean one where none is found."""
        attacked = super().perturb(model, images, goal, pool)
        # foolbox returns a black image then, which might fool the model by chance
        black = (attacked == 0).flatten(1).all(1).reshape(-1, 1, 1, 1)
        return images.where(black, attacked)


@dataclass(frozen=True)
class FMN(FoolboxAttack):
    """The fast minimum-norm attack, of the largest change of a pixel (Pintor et al., 2021).

    In the Euclidean norm there is DDN: foolbox's FMN does not project onto its sphere (release
    3.3.4), and its changes are twice as large.

    Args:
        steps: How many.
        gamma: The share by which the bound changes at first.
    """

    name: ClassVar[str] = "fmn"
    steps: int = 100
    gamma: float = 0.05

    def build(self, attacks: Any) -> Any:
        """The attack."""
        return attacks.LInfFMNAttack(steps=self.steps, gamma=self.gamma)


@dataclass(frozen=True)
class DDN(FoolboxAttack):
    """Decoupled direction and norm, in the Euclidean norm (Rony et al., 2019).

    Args:
        steps: How many.
        gamma: The share by which the norm changes.
    """

    name: ClassVar[str] = "ddn"
    steps: int = 100
    gamma: float = 0.05

    def build(self, attacks: Any) -> Any:
        """The attack."""
        return attacks.DDNAttack(steps=self.steps, gamma=self.gamma)
