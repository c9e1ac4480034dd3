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


class Repeated(Block):
    """One block that runs several times."""

    def __init__(self, block: Block, times: int) -> None:
        super().__init__()
        self.block, self.times = block, times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.block(x)
        return x

    def known(self, path: str) -> Known:
        return self.block.known(f"{path}.block") * self.times


class Around(Block):
    """A residual whose branch is a chain of blocks."""

    def __init__(self, blocks: Sequence[Block], spelling: Spelling) -> None:
        super().__init__()
        self.spelling = spelling
        self.before = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Tanh())
        self.chain, self.behind = nn.Sequential(*blocks), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.behind(F.interpolate(self.chain(self.before(x)), x.shape[-2:]))
        self.note(branch)
        return self.spelling.sum(x, [branch])

    def known(self, path: str) -> Known:
        return [*known_inside(self.chain, f"{path}.chain"), (path, Kind.IDENTITY)]


class Streams(Block):
    """Two chains beside one another, concatenated and mixed."""

    def __init__(self, one: Block, other: Block) -> None:
        super().__init__()
        self.one, self.other, self.mix = one, other, nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        # a copy, because either may write what it is given
        one, other = self.one(x.clone()), self.other(x)
        return self.mix(torch.cat([one, F.interpolate(other, one.shape[-2:])], dim=1))

    def known(self, path: str) -> Known:
        return [*self.one.known(f"{path}.one"), *self.other.known(f"{path}.other")]


class Slicing(StrEnum):
    """How the channels that are added to are taken."""

    INDEX = auto()
    CHUNK = auto()
    SPLIT = auto()
    NARROW = auto()

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        match self:
            case Slicing.CHUNK:
                one, other = x.chunk(2, dim=1)
            case Slicing.SPLIT:
                one, other = x.split([2, 2], dim=1)
            case Slicing.NARROW:
                one, other = x.narrow(1, 0, 2), x.narrow(1, 2, 2)
            case _:
                one, other = x[:, :2], x[:, 2:]
        return one, other


class Sliced(Block):
    """The residual is on half of the channels; the rest goes around it."""

    def __init__(self, slicing: Slicing, spelling: Spelling, whole: bool) -> None:
        super().__init__()
        self.slicing, self.spelling, self.whole = slicing, spelling, whole
        self.body = nn.Sequential(nn.Conv2d(4 if whole else 2, 2, 3, padding=1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.slicing.halves(x)
        branch = self.body(x if self.whole else one)
        self.note(branch)
        return torch.cat([self.spelling.sum(one, [branch]), other], dim=1)

    def known(self, path: str) -> Known:
        return [(path, Kind.IDENTITY)]


class Tokens(Block):
    """A residual on tokens, with a class token that is dropped again."""

    def __init__(self, spelling: Spelling, noise: bool) -> None:
        super().__init__()
        self.spelling, self.rate = spelling, 0.5 if noise else 0.0
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.norm, self.mixer = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(batch, -1, -1), tokens], dim=1)
        weights = self.norm(tokens) @ tokens.transpose(1, 2)
        branch = self.mixer(weights.softmax(dim=-1) @ tokens)
        branch = F.dropout(branch, self.rate, self.training)
        self.note(branch)
        tokens = self.spelling.sum(tokens, [branch])
        return tokens[:, 1:].transpose(1, 2).reshape(batch, -1, height, width)

    def known(self, path: str) -> Known:
        return [(path, Kind.IDENTITY)]


class Dense(Block):
    """The input and what is made of it, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.grow, self.mix = nn.Conv2d(4, 2, 3, padding=1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(torch.cat([x, self.grow(x).relu_()], dim=1))


class Plain(Block):
    """A convolution with norm and activation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu_()


class SumOfConvolutions(Block):
    """Parallel convolutions, which may look like a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.wide(x)
        out += self.narrow(x)
        return out.relu()


class Affine(Block):
    """Scale and shift, which may look like a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.randn(4, 1, 1)), nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.bias[: x.shape[-1]]


class RunningMean(Block):
    """Centres by a mean of its own over the batches seen, and counts them."""

    mean: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4, 1, 1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
            self.mean.lerp_(x.detach().mean((0, 2, 3)).view(4, 1, 1), 0.1)
        return x - self.mean


class CountingResidual(RunningMean):
    """A residual block whose own forward updates its buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        branch = self.body(super().forward(x))
        self.note(branch)
        return x + branch

    def known(self, path: str) -> Known:
        return [(path, Kind.IDENTITY)]
