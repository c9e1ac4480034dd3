"""A small network, and its residues by hand."""

import torch
from torch import nn


class Block(nn.Module):
    """A post-activation residual block that adds and activates in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.norm(self.conv(x))
        out += x
        return self.act(out)


class Net(nn.Module):
    """A stem, four blocks, dropout in the forward, and a buffer that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("shift", torch.zeros(4))
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(4) for _ in range(4)))
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.stem(x) * self.scale)
        x = x.mean((2, 3)) + self.shift
        x = nn.functional.dropout(x, 0.5, training=self.training)
        return self.head(x)


EXAMPLE = torch.zeros(2, 3, 8, 8)


def by_hand(net: Net, images: torch.Tensor) -> list[torch.Tensor]:
    """The residues, computed without the compiler."""
    x = net.stem(images) * net.scale
    residues = []
    for block in net.blocks:
        residue = block.norm(block.conv(x))
        residues.append(residue.clone())
        x = torch.relu(residue + x)
    return residues
