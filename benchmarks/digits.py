"""Handwritten digits, few of them, and networks trained on them end to end or part by part.

The loops are a user's own: they need only a program and an objective.
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
"""Shares: 360 digits to test on, and 431 of the others to choose by."""
EVALUATED = 2000
"""More than there are digits, so that a split is one batch."""


@dataclass(frozen=True)
class Split:
    """Images, N×1×8×8 (or the hidden states of parts), and classes, N."""

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
    """This many training images, each class in proportion. The seed determines the splits."""
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
    """How the weights are trained: SGD with momentum 0.9 (THESIS F.1, G.1)."""

    lr: float
    batch_size: int
    weight_decay: float = 1e-4


class SharedHead(nn.Module):
    """A part of a program without auxiliary heads, with a head that it shares with others.

    Args:
        part: The part.
        head: Computes the logits of the part's hidden state.
    """

    def __init__(self, part: Part, head: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.head = head
        self.index = part.index

    def forward(self, hidden: Tensor, measure: Measure | None, head: bool = True) -> PartOutput:
        """What the part returns, with logits."""
        output: PartOutput = self.part(hidden, measure=measure)
        return output._replace(logits=self.head(output.hidden)) if head else output


WithHead = Part | SharedHead
"""A part that trains on the loss of its own logits."""


class Learners:
    """Parts that train on the same batches, each on its own loss (THESIS 4.3, parallel).

    With one part, ``(program.whole,)``, this is end-to-end training.
    """

    def __init__(
        self, parts: Sequence[WithHead], objective: Objective, recipe: Recipe, seed: int
    ) -> None:
        self.parts = parts
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
            for part in parts
        ]

    def epoch(self, split: Split) -> None:
        """Train on all images once."""
        for part in self.parts:
            part.train()
        for images, classes in split.batches(self.recipe.batch_size, self.generator):
            hidden = images
            for part, optimizer in zip(self.parts, self.optimizers, strict=True):
                optimizer.zero_grad()
                output = part(hidden, measure=self.objective.cost)
                loss = self.objective(output, classes, self.objective.state(part.index))
                loss.total.backward()
                optimizer.step()
                self.objective.commit(part.index, loss.next)
                hidden = output.hidden.detach()


@torch.no_grad()
def exits(parts: Sequence[WithHead], split: Split) -> list[float]:
    """The accuracy in %, after each part."""
    hidden, shares = split.images, []
    for part in parts:
        output = part.eval()(hidden, measure=None)
        correct = logits_of(output.logits).argmax(-1) == split.classes
        shares.append(100 * correct.float().mean().item())
        hidden = output.hidden
    return shares


@torch.no_grad()
def hand_on(part: WithHead, split: Split) -> Split:
    """What a frozen part hands on."""
    return Split(part.eval()(split.images, measure=None, head=False).hidden, split.classes)
