"""What the patterns have in common."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn


class Pattern(nn.Module):
    """A model with a known answer."""

    shape: ClassVar[tuple[int, ...]] = (4, 8, 8)
    """Of one sample."""
    expected: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Path and kind of each residual addition, in execution order."""

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        """The residues that the program must return, computed by hand."""
        return []


def conv(channels: int, out: int | None = None, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out or channels, size, stride, size // 2, bias=False)


def conv_norm_relu(channels: int, out: int | None = None, stride: int = 1) -> nn.Sequential:
    out = out or channels
    return nn.Sequential(conv(channels, out, stride=stride), nn.BatchNorm2d(out), nn.ReLU())


def mlp(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
    )


class Attention(nn.Module):
    """Single-head attention with a bias on the scores and rotary positions, no residual."""

    def __init__(self, width: int, positions: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.bias = nn.Parameter(torch.randn(positions, positions))
        angles = torch.randn(positions, width)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def rotate(self, x: Tensor) -> Tensor:
        one, other = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat([-other, one], dim=-1) * self.sin

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        scores = self.rotate(q) @ self.rotate(k).transpose(1, 2) + self.bias
        return scores.softmax(dim=-1) @ v
