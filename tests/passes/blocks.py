"""Small blocks that know their residual additions, and note their residues as they run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from fxtransport.ir import Kind

CHANNELS = 4
"""Of what every block takes and returns: B×4×H×W."""


Known = list[tuple[str, Kind]]
"""The path and kind of each addition, in execution order."""


class Block(nn.Module):
    """Takes B×4×H×W and returns it, perhaps of half the size."""

    tape: ClassVar[list[Tensor] | None] = None

    def note(self, *branches: Tensor) -> None:
        """Keep a copy of a residue, the sum of these, if residues are being recorded."""
        if Block.tape is not None:
            total = branches[0].clone()
            for branch in branches[1:]:
                total = total + branch
            Block.tape.append(total)

    def known(self, path: str) -> Known:
        """The tapped additions of the block at this path."""
        return []


@contextmanager
def recording_residues() -> Iterator[list[Tensor]]:
    """What blocks note while this is active: the residues, as the model itself computes them."""
    Block.tape = []
    try:
        yield Block.tape
    finally:
        Block.tape = None


def known_inside(blocks: nn.Sequential, path: str) -> Known:
    """The additions of a chain, one block after the other."""
    return [found for name, b in blocks.named_children() for found in b.known(f"{path}.{name}")]


class Skip(StrEnum):
    """What is added to the branch."""

    INPUT = auto()
    MODULE = auto()  # nn.Identity
    BATCH_NORM = auto()
    CONVOLUTION = auto()
    STRIDED = auto()
    POOL = auto()

    @property
    def kind(self) -> Kind:
        match self:
            case Skip.INPUT | Skip.MODULE:
                return Kind.IDENTITY
            case Skip.BATCH_NORM:
                return Kind.IDENTITY_BN
        return Kind.PROJECTION

    @property
    def stride(self) -> int:
        return 2 if self in (Skip.STRIDED, Skip.POOL) else 1

    def module(self) -> nn.Module | None:
        match self:
            case Skip.INPUT:
                return None
            case Skip.MODULE:
                return nn.Identity()
            case Skip.BATCH_NORM:
                return nn.BatchNorm2d(4)
            case Skip.POOL:
                return nn.AvgPool2d(2, ceil_mode=True)
        return nn.Conv2d(4, 4, 1, self.stride)


class Spelling(StrEnum):
    """How the sum is written."""

    SKIP_FIRST = auto()
    BRANCH_FIRST = auto()
    FUNCTION = auto()
    AUGMENTED = auto()  # branch += skip
    METHOD = auto()  # branch.add_(skip)
    ONTO_SKIP = auto()  # skip += branch

    def sum(self, skip: Tensor, branches: Sequence[Tensor]) -> Tensor:
        if self is Spelling.SKIP_FIRST:
            for branch in branches:
                skip = skip + branch
            return skip
        if self is Spelling.ONTO_SKIP:
            for branch in branches:
                skip += branch
            return skip
        total, *others = branches
        for term in (*others, skip):
            total = self._added(total, term)
        return total

    def _added(self, total: Tensor, term: Tensor) -> Tensor:
        match self:
            case Spelling.BRANCH_FIRST:
                return total + term
            case Spelling.FUNCTION:
                return torch.add(total, term)
            case Spelling.METHOD:
                return total.add_(term)
        total += term
        return total


class Noise(StrEnum):
    """What the branch is dropped by."""

    NONE = auto()
    FUNCTION = auto()  # follows the training flag of the block
    IN_PLACE = auto()
    STOCHASTIC_DEPTH = auto()
    ADDED = auto()  # in train mode only
    PATH = auto()  # a module


class Scale(StrEnum):
    """How the branch is scaled."""

    NONE = auto()
    LEARNED = auto()
    IN_PLACE = auto()


class Activation(StrEnum):
    """What is done to the sum."""

    NONE = auto()
    MODULE = auto()  # nn.ReLU(inplace=True)
    FUNCTION = auto()
    IN_PLACE = auto()  # by a function
    METHOD = auto()


@dataclass(frozen=True)
class Recipe:
    """A residual block in words."""

    skip: Skip
    spelling: Spelling
    noise: Noise
    scale: Scale
    activation: Activation
    pre_activation: bool
    parallel: int
    """How many further branches there are."""
    inside: tuple["Recipe", ...]
    """Residual blocks that are part of the branch."""

    def build(self) -> "Residual":
        return Residual(self)


class Residual(Block):
    """A residual block after a recipe."""

    deviation: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        stride = recipe.skip.stride
        self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, stride, 1), nn.ReLU(inplace=True))
        self.inside = nn.Sequential(*(inner.build() for inner in recipe.inside))
        self.last = nn.Conv2d(4, 4, 3, padding=1)
        self.shortcut = recipe.skip.module()
        self.drop = DropPath(0.5) if recipe.noise is Noise.PATH else nn.Identity()
        self.gamma = nn.Parameter(torch.randn(4, 1, 1))
        self.register_buffer("deviation", torch.rand(4, 1, 1))
        self.others = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, 4, 1, stride), nn.Sigmoid()) for _ in range(recipe.parallel)
        )

    def __repr__(self) -> str:
        return str(self.recipe)  # all there is to know when a test fails

    def forward(self, x: Tensor) -> Tensor:
        start = self.relu(self.norm(x)) if self.recipe.pre_activation else x
        skip = x
        if self.shortcut is not None:
            skip = self.shortcut(start if self.recipe.skip.kind is Kind.PROJECTION else x)
        branch = self.dropped(self.scaled(self.last(self.inside(self.body(start)))))
        branches = [branch, *(other(start) for other in self.others)]
        self.note(*branches)
        return self.activated(self.recipe.spelling.sum(skip, branches))

    def scaled(self, branch: Tensor) -> Tensor:
        match self.recipe.scale:
            case Scale.LEARNED:
                return branch * self.gamma
            case Scale.IN_PLACE:
                return branch.mul_(self.gamma)
        return branch

    def dropped(self, branch: Tensor) -> Tensor:
        match self.recipe.noise:
            case Noise.FUNCTION:
                return F.dropout(branch, 0.5, self.training)
            case Noise.IN_PLACE:
                return F.dropout(branch, 0.5, self.training, inplace=True)
            case Noise.STOCHASTIC_DEPTH:
                return stochastic_depth(branch, 0.5, "row", self.training)
            case Noise.ADDED:
                if self.training:
                    branch = branch + torch.randn_like(branch) * self.deviation
                return branch
        return self.drop(branch)

    def activated(self, total: Tensor) -> Tensor:
        match self.recipe.activation:
            case Activation.MODULE:
                return self.relu(total)
            case Activation.FUNCTION:
                return F.gelu(total)
            case Activation.IN_PLACE:
                return F.leaky_relu(total, 0.1, inplace=True)
            case Activation.METHOD:
                return total.relu_()
        return total

    def known(self, path: str) -> Known:
        return [*known_inside(self.inside, f"{path}.inside"), (path, self.recipe.skip.kind)]
