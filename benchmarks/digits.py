"""Handwritten digits, few of them, and networks trained on them end to end or module by module.

The loops are a user's own: they need nothing but ``program`` and ``objective``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fxtransport.data import load
from fxtransport.objectives import Objective, logits_of
from fxtransport.program import Part, PartOutput
from fxtransport.residue import Measure

VALIDATION, TEST = 0.3, 0.2
"""Shares: 431 digits to choose by (of what is no test), and 360 to test on."""
EVALUATED = 2000
"""More than there are digits, so that a split is one batch."""


@dataclass(frozen=True)
class Split:
    """Images, N×1×8×8 (or what modules made of them), and classes, N."""

    images: Tensor
    classes: Tensor

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """All of it once, in random order."""
        order = torch.randperm(len(self.classes), generator=generator)
        for chosen in order.split(size):
            yield self.images[chosen], self.classes[chosen]


@dataclass(frozen=True)
class Digits:
    """Few to train on, some to choose by, and the rest to look at once."""

    train: Split
    validation: Split
    test: Split


def digits(images: int, seed: int, device: str = "cpu") -> Digits:
    """As many training images as wanted, each class in proportion; the splits are the seed's."""
    splits = load(
        "digits",
        seed=seed,
        batch_size=images,
        eval_batch_size=EVALUATED,
        validation=VALIDATION,
        test=TEST,
        train_samples=images,
    )
    assert splits.validation is not None
    found = (
        next(iter(batches)) for batches in (splits.train.epoch(0), splits.validation, splits.test)
    )
    return Digits(*(Split(x.to(device), y.to(device)) for x, y in found))


@dataclass(frozen=True)
class Recipe:
    """How the weights are stepped: SGD with momentum 0.9 (THESIS F.1, G.1)."""

    lr: float
    batch_size: int
    weight_decay: float = 1e-4


class SharedHead(nn.Module):
    """A module of a program that is cut without heads, with one that others have too.

    Args:
        part: The module.
        head: Gives logits of what the module hands on.
    """

    def __init__(self, part: Part, head: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.head = head
        self.index = part.index

    def forward(self, hidden: Tensor, cost: Measure | None, head: bool = True) -> PartOutput:
        """What the module returns, and logits."""
        output: PartOutput = self.part(hidden, measure=cost)
        return output._replace(logits=self.head(output.hidden)) if head else output


WithHead = Part | SharedHead
"""A module that trains on the loss of its own logits."""


class Learners:
    """Modules that train on the same batches, each for its own loss (THESIS 4.3, parallel).

    One module alone, ``(program.whole,)``, is end-to-end training.
    """

    def __init__(
        self, modules: Sequence[WithHead], objective: Objective, recipe: Recipe, seed: int
    ) -> None:
        self.modules = modules
        self.objective = objective
        self.recipe = recipe
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizers = [
            torch.optim.SGD(
                part.parameters(),
                recipe.lr,
                momentum=0.9,
                weight_decay=recipe.weight_decay,
                fused=True,
            )
            for part in modules
        ]

    def epoch(self, split: Split) -> None:
        """Train on all images once."""
        for part in self.modules:
            part.train()
        for images, classes in split.batches(self.recipe.batch_size, self.generator):
            hidden = images
            for part, optimizer in zip(self.modules, self.optimizers, strict=True):
                optimizer.zero_grad()
                output = part(hidden, measure=self.objective.cost)
                self.objective(output, classes, module=part.index).total.backward()
                optimizer.step()
                hidden = output.hidden.detach()


@torch.no_grad()
def exits(modules: Sequence[WithHead], split: Split) -> list[float]:
    """The share of right answers in %, after each module."""
    hidden, shares = split.images, []
    for part in modules:
        output = part.eval()(hidden, measure=None)
        right = logits_of(output.logits).argmax(-1) == split.classes
        shares.append(100 * right.float().mean().item())
        hidden = output.hidden
    return shares


@torch.no_grad()
def passed_on(part: WithHead, split: Split) -> Split:
    """What a frozen module hands on."""
    return Split(part.eval()(split.images, measure=None, head=False).hidden, split.classes)
