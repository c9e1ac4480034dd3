"""Residual additions that are spelled as something else than ``x + f(x)``."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from tests.patterns.base import Pattern, mlp


class Branch(nn.Module):
    """A residual block of tokens with an MLP for its branch."""

    shape: ClassVar[tuple[int, ...]] = (6, 8)
    expected: ClassVar[tuple[tuple[str, str], ...]] = (("", "identity"),)

    def __init__(self) -> None:
        super().__init__()
        self.mlp = mlp(8)


class SumFromZero(Branch, Pattern):
    """Python's sum starts from 0, which is added to the skip (fastvit_t8)."""

    def forward(self, x: Tensor) -> Tensor:
        return sum([x, self.mlp(x)])

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.mlp(x)]


class SubtractedBranch(Branch, Pattern):
    """The branch is subtracted, so the residue is its negative."""

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mlp(x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [-self.mlp(x)]


class ScaledBranch(Branch, Pattern):
    """The addition scales the branch."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.mlp(x), alpha=0.3)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.mlp(x) * 0.3]


class ScaledByAddition(Branch, Pattern):
    """The addition scales the skip: a projection, whose residue is the branch."""

    expected = (("", "projection"),)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x).add_(x, alpha=2)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.mlp(x)]


class Interpolated(Branch, Pattern):
    """x + w·(f(x) - x) by ``torch.lerp``, then activated in place: r is y - x."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(x, self.mlp(x), 0.25).relu_()

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [torch.lerp(x, self.mlp(x), 0.25) - x]


class ScaledChannels(Branch, Pattern):
    """Layer scale and addition in one operation."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(x, self.gamma, self.mlp(x))

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [torch.addcmul(x, self.gamma, self.mlp(x)) - x]


class SumOfStack(Branch, Pattern):
    """The sum over a stack of the skip and two branches."""

    def forward(self, x: Tensor) -> Tensor:
        branch = self.mlp(x)
        return torch.stack([branch, x, branch.relu()], dim=-1).sum(-1)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        branch = self.mlp(x)
        return [branch + branch.relu()]


class OutputModule(nn.Module):
    """Is given the branch so far and the skip, and computes too."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(16, 8), nn.LayerNorm(8)

    def forward(self, hidden: Tensor, skip: Tensor) -> Tensor:
        return self.norm(self.dense(hidden) + skip)


class OutputLayer(nn.Module):
    """A layer whose last module adds."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.output = nn.Linear(8, 16), OutputModule()

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.up(x).relu(), x)


class AdditionInOutputModule(Pattern):
    """The module that adds computes the end of the branch (BERT, ELECTRA, YOLOS, VideoMAE)."""

    shape = (6, 8)
    expected = (("one.output", "identity"), ("two.output", "identity"))

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = OutputLayer(), OutputLayer()

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x))

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        found = []
        for layer in (self.one, self.two):
            found.append(layer.output.dense(layer.up(x).relu()))
            x = layer(x)
        return found


class JoinedSkip(Pattern):
    """The skip is joined of a class token and of tokens that were added to (TimeSformer)."""

    shape = (6, 8)
    expected = (("", "identity"), ("", "identity"))

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = mlp(8), mlp(8)

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        token, rest = x[:, :1], x[:, 1:]
        first = self.first(rest)
        moved = self.second(torch.cat([token, rest + first], dim=1))
        return first, moved[:, :1], moved[:, 1:]

    def forward(self, x: Tensor) -> Tensor:
        token, rest = x[:, :1], x[:, 1:]
        rest = rest + self.first(rest)
        moved = self.second(torch.cat([token, rest], dim=1))
        own = torch.cat([moved[:, :1], moved[:, 1:]], dim=1)
        return torch.cat([token, rest], dim=1) + own

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        first, token, rest = self.branches(x)
        return [first, torch.cat([token, rest], dim=1)]
