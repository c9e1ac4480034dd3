"""Blocks around, beside and instead of plain residual ones, which know their additions."""

from collections.abc import Sequence
from enum import StrEnum, auto

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxtransport.ir import Kind
from tests.passes.blocks import Block, Known, Spelling, known_inside


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
        self.chain, self.after = nn.Sequential(*blocks), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.after(F.interpolate(self.chain(self.before(x)), x.shape[-2:]))
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
