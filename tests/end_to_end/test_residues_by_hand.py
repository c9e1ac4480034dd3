"""Residues of models written for it: repeated, nested, sliced, in windows, overwritten."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from fxtransport import transportify
from tests.compiling import assert_identical


class Handwritten(nn.Module):
    """A model whose forward returns what its branches gave, too, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.calls = nn.ModuleList([self.one, self.two, self.one])

    def forward(self, x: Tensor) -> Tensor:
        return self.by_hand(x)[0]

    def by_hand(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        raise NotImplementedError


class Repeated(Handwritten):
    """Calls a module again."""

    def by_hand(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        residues = []
        for call in self.calls:
            residues.append(call(x).relu())
            x = x + residues[-1]
        return x, residues


class Nested(Handwritten):
    """A residual in the branch of another."""

    def by_hand(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        inner = self.one(x).relu()
        outer = self.two(x + inner)
        return x + outer, [inner, outer]


class Sliced(Handwritten):
    """Adds to the first token alone."""

    def by_hand(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        first, rest = x[:, :1], x[:, 1:]
        residue = self.one(x.mean(1, keepdim=True))
        return self.two(torch.cat([first + residue, rest], dim=1)), [residue]


class SlicedInPlace(Handwritten):
    """Adds to the first token where it lies."""

    def by_hand(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = self.two(x)
        residue = self.one(x.mean(1, keepdim=True))
        x[:, :1] += residue
        return x, [residue]


class Windowed(Handwritten):
    """Rolls its tokens and adds within windows of two, then adds in the order it began with."""

    def by_hand(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        windows = x.roll(-1, dims=1).reshape(-1, 2, 4)
        within = self.one(windows.mean(1, keepdim=True)).expand(-1, 2, -1)
        x = (windows + within).reshape(x.shape).roll(1, dims=1)
        residue = self.two(x).relu()
        return x + residue, [within, residue]


class PreActivatedInPlace(Handwritten):
    """The activation overwrites the skip, and the addition its branch."""

    def by_hand(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        residues = []
        for call in self.calls:
            x = torch.sin(x)
            branch = call(nn.functional.relu(x, inplace=True))
            residues.append(branch.clone())
            branch += x
            x = branch
        return x, residues


@pytest.mark.parametrize(
    "kind", [Repeated, Nested, Sliced, SlicedInPlace, Windowed, PreActivatedInPlace]
)
def test_residues_are_those_written_by_hand(kind: type[Handwritten]) -> None:
    model = kind()
    x = torch.randn(2, 6, 4)
    program = transportify(model, x)
    for mode in (True, False):
        model.train(mode)
        expected, by_hand = model.by_hand(x)
        found = program.train(mode).transport(x)
        assert_identical(program(x), expected)
        assert_identical(list(found.residues), by_hand)


class Branching(nn.Module):
    """Drops its branch by a function that does more in train mode than in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def branch(self, x: Tensor) -> Tensor:
        return stochastic_depth(self.conv(x).relu(), 0.5, "row", self.training)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


@pytest.mark.parametrize("training", [True, False])
def test_residues_are_those_of_the_mode(training: bool) -> None:
    model = Branching().train(training)
    x = torch.randn(8, 3, 4, 4)
    program = transportify(model, x)
    torch.manual_seed(1)
    expected = model.branch(x)
    torch.manual_seed(1)
    assert_identical(program.transport(x).residues, (expected,))
    assert training == (expected.flatten(1).abs().sum(1) == 0).any()
