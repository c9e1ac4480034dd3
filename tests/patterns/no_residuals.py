"""Additions that only seem to be residual."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.patterns.base import Attention, Pattern, conv, conv_norm_relu, mlp


class NotPositionEmbedding(Pattern):
    """A learned position embedding is not a residual."""

    shape = (6, 8)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.positions = nn.Linear(8, 8), nn.Parameter(torch.randn(6, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x) + self.positions


class NotAttentionBias(Pattern):
    """A bias added to attention's scores, and rotary positions, are no residuals."""

    shape = (6, 8)

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x)


class NotRotary(Pattern):
    """x·cos + rotated x·sin is not a residual, in the model's own forward either."""

    shape = (6, 8)

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(8, 8)
        self.register_buffer("angles", torch.randn(6, 8))

    def forward(self, x: Tensor) -> Tensor:
        q = self.query(x)
        one, other = q.chunk(2, dim=-1)
        return q * self.angles.cos() + torch.cat([-other, one], dim=-1) * self.angles.sin()


class Pyramid(nn.Module):
    """A feature pyramid over two maps that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = conv(4, size=1), conv(6, 4, size=1)

    def forward(self, maps: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        coarse = self.coarse(maps[1])
        return self.fine(maps[0]) + F.interpolate(coarse, scale_factor=2.0), coarse


class NotPyramidFusion(Pattern):
    """A feature pyramid adds coarse maps to fine ones: fusion, no residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = conv(4), conv_norm_relu(4, 6, stride=2)
        self.pyramid = Pyramid()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.stem(x)
        return self.pyramid((fine, self.down(fine)))


class NotStreamFusion(Pattern):
    """Parallel streams of several resolutions are added to one another (hrnet_w18)."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = conv_norm_relu(4, 6), conv_norm_relu(4, 6, stride=2)
        self.up, self.down = conv(6, size=1), conv(6, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine, coarse = self.fine(x), self.coarse(x)
        up = F.interpolate(self.up(coarse), scale_factor=2.0)
        return (fine + up).relu(), (self.down(fine) + coarse).relu()


class NotSumOfConvolutions(Pattern):
    """Parallel convolutions are summed without the block's input (repvgg_a0, stride 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Sequential(conv(4, 6), nn.BatchNorm2d(6))
        self.narrow = nn.Sequential(conv(4, 6, size=1), nn.BatchNorm2d(6))

    def forward(self, x: Tensor) -> Tensor:
        return (self.narrow(x) + self.wide(x)).relu()


class NotBias(Pattern):
    """A bias added by hand is not a residual."""

    shape = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(6, 8)), nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.bias


class NotAffine(Pattern):
    """scale·x + bias is not a residual (resmlp's Affine)."""

    shape = (6, 8)

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.bias


class NotGelu(Pattern):
    """GELU by hand adds x to its own cube: nothing is learned, so no residual."""

    shape = (6, 8)

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        return 0.5 * x * (1 + torch.tanh(0.79788456 * (x + 0.044715 * x**3)))


class SegmentationHead(nn.Module):
    """Adds the classes of two maps that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = conv(4, 3, size=1), conv(6, 3, size=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(6, size=1), nn.Sigmoid())

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        low, high = maps["low"], maps["high"]
        high = F.interpolate(high * self.gate(high), size=low.shape[-2:], mode="bilinear")
        return self.low(low) + self.high(high)


class NotSumOfHeads(Pattern):
    """A segmentation head adds the classes of two maps (lraspp_mobilenet_v3_large)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deeper = conv(4), conv_norm_relu(4, 6, stride=2)
        self.head = SegmentationHead()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        low = self.stem(x)
        return {"out": self.head({"low": low, "high": self.deeper(low)})}


class NotDifference(Pattern):
    """f(x) - x is how far a block is from its input, and no block."""

    shape = (6, 8)

    def __init__(self) -> None:
        super().__init__()
        self.mlp = mlp(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x) - x


class NotSumOfStages(Pattern):
    """The weighted sum of classifiers of several stages (efficientvim_m1)."""

    shape = (6, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([mlp(8) for _ in range(3)])
        self.heads = nn.ModuleList([nn.Linear(8, 3) for _ in range(3)])
        self.weights = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for k, (stage, head) in enumerate(zip(self.stages, self.heads, strict=True)):
            x, hidden = stage(x), x.tanh()
            found.append(self.weights[k] * head(hidden.mean(1)))
            x = torch.cat([x, hidden], dim=1)[:, ::2]
        return torch.stack(found).sum(0)
