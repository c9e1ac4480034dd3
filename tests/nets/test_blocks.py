"""The blocks of the papers: what each computes, and that it keeps its shape."""

import pytest
import torch
from torch import nn

from fxtransport.nets.blocks import BasicBlock, LinearBlock, PadShortcut, PreActBlock, Shortcut

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("activated", [True, False])
def test_a_pre_activation_block_adds_to_its_input(batch_norm: bool, activated: bool) -> None:
    block = PreActBlock(4, batch_norm=batch_norm, activated=activated).eval()
    kinds = [type(module) for module in block.branch]
    assert kinds.count(nn.Conv2d) == 2
    assert kinds.count(nn.ReLU) == (1 if activated else 2)
    assert kinds.count(nn.BatchNorm2d) == (kinds.count(nn.ReLU) if batch_norm else 0)
    y = block(X)
    assert y.shape == X.shape
    assert torch.equal(y, X + block.branch(X))


@pytest.mark.parametrize("shortcut", ["pad", "projection"])
def test_a_basic_block_halves_and_widens(shortcut: Shortcut) -> None:
    block = BasicBlock(4, 8, stride=2, shortcut=shortcut).eval()
    y = block(X)
    assert y.shape == (2, 8, 3, 3)
    assert torch.equal(y, (block.shortcut(X) + block.branch(X)).relu())
    assert bool(list(block.shortcut.parameters())) == (shortcut == "projection")


@pytest.mark.parametrize("shortcut", ["pad", "projection"])
def test_the_shortcut_of_a_block_that_keeps_its_shape_is_the_identity(shortcut: Shortcut) -> None:
    block = BasicBlock(4, 4, shortcut=shortcut)
    assert isinstance(block.shortcut, nn.Identity)


def test_a_padded_shortcut_takes_every_other_position() -> None:
    y = PadShortcut(3, 2)(X)
    assert y.shape == (2, 7, 3, 3)
    assert torch.equal(y[:, :4], X[:, :, ::2, ::2])
    assert not y[:, 4:].any()


def test_a_linear_block_moves_points() -> None:
    block = LinearBlock(2, 5, batch_norm=True).eval()
    points = torch.randn(3, 2)
    assert torch.equal(block(points), points + block.branch(points))
    assert [m.out_features for m in block.branch if isinstance(m, nn.Linear)] == [5, 2]
