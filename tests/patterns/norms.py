"""Residual additions around batch norms."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tests.patterns.base import Pattern, conv, conv_norm_relu


class MixerMinusNorm(Pattern):
    """x + scale·(mixer(x) − norm(x)) (fastvit_t8)."""

    expected = (("", "identity"),)

    def __init__(self) -> None:
        super().__init__()
        self.mixer, self.norm = conv_norm_relu(4), nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * (self.mixer(x) - self.norm(x))

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.scale * (self.mixer(x) - self.norm(x))]


class BatchNormSkip(Pattern):
    """A sum of several branches, one of them a bare batch norm (repvgg_a0)."""

    expected = (("", "identity_bn"),)

    def __init__(self) -> None:
        super().__init__()
        self.identity = nn.BatchNorm2d(4)
        self.wide, self.narrow = conv(4), conv(4, size=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.narrow(x) + self.wide(x)
        out += self.identity(x)
        return self.relu(out)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.narrow(x) + self.wide(x)]


class NormAfterSum(Pattern):
    """The bare input is the third term of a sum that a batch norm follows (repvit_m1)."""

    expected = (("", "identity"),)

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = conv(4), conv(4, size=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.wide(x) + self.narrow(x) + x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.wide(x) + self.narrow(x)]


class BatchNormSkipInside(Pattern):
    """The batch-norm skip starts from an internal tensor (ghostnetv3_050, repghost_050)."""

    expected = (("", "identity_bn"),)

    def __init__(self) -> None:
        super().__init__()
        self.primary = conv_norm_relu(4, 2)
        self.identity = nn.BatchNorm2d(2)
        self.cheap = conv(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(x)
        return torch.cat([x, self.identity(x) + self.cheap(x)], dim=1)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.cheap(self.primary(x))]


class SkipAfterActivation(Pattern):
    """The skip is taken after the block's norm and activation (regnetv_040)."""

    expected = (("", "identity"),)

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.body = nn.Sequential(conv_norm_relu(4), conv(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(x))
        return x + self.body(x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.body(self.norm(x).relu())]


class PreActivated(nn.Module):
    """A block that adds the raw input, or a projection of the activated one."""

    def __init__(self, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU()
        self.body = nn.Sequential(conv_norm_relu(4), conv(4))
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu(self.norm(x))
        skip = x if self.shortcut is None else self.shortcut(active)
        return self.body(active) + skip


class PreActivation(Pattern):
    """Identity skips are the raw input, projections start after the norm (resnetv2_50)."""

    expected = (("blocks.0", "projection"), ("blocks.1", "identity"))

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(PreActivated(conv(4, size=1)), PreActivated(None))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        one, two = self.blocks
        active = one.norm(x).relu()
        first = one.body(active)
        x = first + one.shortcut(active)
        return [first, two.body(two.norm(x).relu())]
