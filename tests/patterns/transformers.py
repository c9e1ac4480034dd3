"""Residual additions of tokens, as transformers and their mixtures with convolutions write them."""

from collections.abc import Sequence

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from tests.patterns.base import Attention, Pattern, conv, conv_norm_relu, mlp


class ScaledSkip(Pattern):
    """The skip has a learned scale for each channel (caformer_s18)."""

    shape = (6, 8)
    expected = (("", "projection"),)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(8))
        self.mlp = mlp(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.mlp(x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.mlp(x)]


class MoveTowards(Pattern):
    """x + a·(f(x) − x): the branch holds the skip too (efficientvim_m1)."""

    shape = (6, 8)
    expected = (("", "identity"),)

    def __init__(self) -> None:
        super().__init__()
        self.mlp = mlp(8)
        self.alpha = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.alpha * (self.mlp(x) - x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.alpha * (self.mlp(x) - x)]


class ClassAttention(nn.Module):
    """A token that attends to others, and keeps itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(8, 6), mlp(8)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        token = token + self.attention(torch.cat([token, x], dim=1))[:, :1]
        return token + self.mlp(token)


class ClassToken(Pattern):
    """The skip is a parameter: a class token that attends to the input (cait_xxs24_224)."""

    shape = (5, 8)
    expected = (("block", "identity"), ("block", "identity"))

    def __init__(self) -> None:
        super().__init__()
        self.token, self.block = nn.Parameter(torch.randn(1, 1, 8)), ClassAttention()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, self.token.expand(x.shape[0], -1, -1))

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        token = self.token.expand(x.shape[0], -1, -1)
        first = self.block.attention(torch.cat([token, x], dim=1))[:, :1]
        return [first, self.block.mlp(token + first)]


class SkipIsSlice(Pattern):
    """The skip is the class token's slice of the tokens (volo_d1_224)."""

    shape = (6, 8)
    expected = (("", "identity"), ("", "identity"))

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(8, 6), mlp(8)

    def forward(self, x: Tensor) -> Tensor:
        token = x[:, :1]
        token = token + self.attention(x)[:, :1]
        token = token + self.mlp(token)
        return torch.cat([token, x[:, 1:]], dim=1)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        first = self.attention(x)[:, :1]
        return [first, self.mlp(x[:, :1] + first)]


def windows(x: Tensor) -> Tensor:
    """B×C×8×8 to windows of 4×4: 4B×16×C."""
    channels = x.shape[1]
    x = x.unflatten(3, (2, 4)).unflatten(2, (2, 4)).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(-1, 16, channels)


class SkipThroughWindows(Pattern):
    """The skip is the block's input through permutations, cut into windows
    (samvit_base_patch16_224)."""

    expected = (("", "identity"),)

    def __init__(self) -> None:
        super().__init__()
        self.mixer = conv_norm_relu(4)
        self.attention = Attention(4, 16)

    def forward(self, x: Tensor) -> Tensor:
        return windows(x) + self.attention(windows(self.mixer(x)))

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.attention(windows(self.mixer(x)))]


class PositionEncoding(nn.Module):
    """x + depthwise convolution of x."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class SharedModule(Pattern):
    """One residual module runs several times (coat_tiny's cpe2)."""

    expected = (("position", "identity"),) * 3

    def __init__(self) -> None:
        super().__init__()
        self.position, self.mixer = PositionEncoding(), conv_norm_relu(4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = self.mixer(self.position(x))
        return self.position(x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        found = []
        for _ in range(2):
            found.append(self.position.conv(x))
            x = self.mixer(x + found[-1])
        return [*found, self.position.conv(x)]


class ResidualInsideResidual(Pattern):
    """A residual block is part of a branch (edgenext_small)."""

    expected = (("branch.inside", "identity"), ("", "identity"))

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential()
        self.branch.add_module("before", conv_norm_relu(4))
        self.branch.add_module("inside", PositionEncoding())
        self.branch.add_module("after", conv(4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        hidden = self.branch.before(x)
        inside = self.branch.inside.conv(hidden)
        return [inside, self.branch.after(hidden + inside)]


class PooledAttention(nn.Module):
    """Attention that adds its query, but for the first token, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.project = nn.Linear(8, 24), nn.Linear(8, 8)
        self.positions = nn.Parameter(torch.randn(6, 8))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        scores = q @ k.transpose(1, 2)
        scores[:, 1:, :] += q[:, 1:, :] @ self.positions.T
        x = scores.softmax(dim=-1) @ v
        x[:, 1:, :] += q[:, 1:, :]
        return self.project(x)


class SliceInPlace(Pattern):
    """An addition in place to a slice, inside the branch (mvit_v2_s); it is not the block's."""

    shape = (6, 8)
    expected = (("attention", "inner"), ("", "identity"))

    def __init__(self) -> None:
        super().__init__()
        self.attention = PooledAttention()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.attention(x)]


class ParallelBranches(Pattern):
    """x + attention(x) + mlp(x) is one residual (aimv2, vit_parallel)."""

    shape = (6, 8)
    expected = (("", "identity"),)

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(8, 6), mlp(8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x) + self.mlp(x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.attention(x) + self.mlp(x)]


class DroppedPath(Pattern):
    """Layer scale and drop-path are on the branch only (vit_tiny, convnext_tiny)."""

    shape = (6, 8)
    expected = (("", "identity"),)

    def __init__(self) -> None:
        super().__init__()
        self.mlp, self.drop_path = mlp(8), DropPath(0.5)
        self.gamma = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.mlp(x) * self.gamma)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.drop_path(self.mlp(x) * self.gamma)]
