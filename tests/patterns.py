"""Small modules by hand, one for each way in which the zoo writes, or only seems to write,
a residual addition; see ``docs/residuals.md``.

Each knows the answer: which module adds what kind of residual, and the residues' values,
computed apart and out of place.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from timm.layers import DropPath
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


class GivenShortcut(nn.Module):
    """Adds a shortcut that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm_relu(4, stride=2), conv(4))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        out = self.body(x)
        out += shortcut
        return self.relu(out)


class ShortcutFromParent(Pattern):
    """The shortcut is computed in the parent and handed in; it is only a pooling (dla46x_c)."""

    expected = (("block", "projection"),)

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.block = GivenShortcut()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, self.pool(x))

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.block.body(x)]


class Aggregation(nn.Module):
    """Adds the first of several maps to a convolution of them all."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(8, 4, size=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, children: list[Tensor]) -> Tensor:
        x = self.conv(torch.cat(children, dim=1))
        x += children[0]
        return self.relu(x)


class SkipFromList(Pattern):
    """The skip comes from a list that is also concatenated into the branch (dla102)."""

    expected = (("root", "identity"),)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv_norm_relu(4), conv_norm_relu(4)
        self.root = Aggregation()

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return self.root([self.second(first), first])

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        first = self.first(x)
        return [self.root.conv(torch.cat([self.second(first), first], dim=1))]


class SliceThenConcatenation(Pattern):
    """The addition is on a slice of the channels; the rest is concatenated (dpn68)."""

    shape = (6, 8, 8)
    expected = (("", "identity"),)

    def __init__(self) -> None:
        super().__init__()
        self.body = conv_norm_relu(6)

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        added = x[:, :4] + out[:, :4]
        return torch.cat([added, x[:, 4:], out[:, 4:]], dim=1)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.body(x)[:, :4]]


class WiderBranch(Pattern):
    """The skip is added to the first channels of a wider branch (rexnet_100)."""

    expected = (("", "identity"),)

    def __init__(self) -> None:
        super().__init__()
        self.body = conv_norm_relu(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        return torch.cat([out[:, :4] + x, out[:, 4:]], dim=1)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.body(x)[:, :4]]


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
    """The skip is taken behind the block's norm and activation (regnetv_040)."""

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
    """Identity skips are the raw input, projections start behind the norm (resnetv2_50)."""

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


class ShortcutsInTurn(Pattern):
    """One block pools the skip of its first addition and projects its second's (hiera)."""

    expected = (("", "projection"), ("", "projection"))

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.mixer = nn.MaxPool2d(2), conv_norm_relu(4, stride=2)
        self.norm, self.project = nn.BatchNorm2d(4), conv(4, 6, size=1)
        self.widen = conv_norm_relu(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x) + self.mixer(x)
        x = self.norm(x)
        return self.project(x) + self.widen(x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        first = self.mixer(x)
        return [first, self.widen(self.norm(self.pool(x) + first))]


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
        self.branch.add_module("behind", conv(4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        hidden = self.branch.before(x)
        inside = self.branch.inside.conv(hidden)
        return [inside, self.branch.behind(hidden + inside)]


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


class IdentityModule(Pattern):
    """The skip is what an nn.Identity returns (convnext_tiny, regnety_002)."""

    expected = (("", "identity"),)

    def __init__(self) -> None:
        super().__init__()
        self.shortcut, self.body = nn.Identity(), conv_norm_relu(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.body(x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [self.body(x)]


class MaybeShortcut(nn.Module):
    """A block that adds nothing where its shortcut is None."""

    def __init__(self, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.body, self.shortcut = conv_norm_relu(4), shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        return out if self.shortcut is None else out + self.shortcut(x)


class ShortcutNone(Pattern):
    """A block whose shortcut is None adds nothing (bat_resnext26ts)."""

    expected = (("1", "identity"), ("2", "projection"))

    def __init__(self) -> None:
        super().__init__()
        self.add_module("0", MaybeShortcut(None))
        self.add_module("1", MaybeShortcut(nn.Identity()))
        self.add_module("2", MaybeShortcut(conv(4, size=1)))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.children():
            x = block(x)
        return x

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        none, identity, projection = self.children()
        x = none.body(x)
        first = identity.body(x)
        return [first, projection.body(first + x)]


class Basic(nn.Module):
    """ResNet's block: added in place, activated in place."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv(channels, out, stride=stride), nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.norm2 = conv(out), nn.BatchNorm2d(out)
        project = [conv(channels, out, size=1, stride=stride), nn.BatchNorm2d(out)]
        self.downsample = nn.Sequential(*project) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.norm2(self.conv2(x))
        if self.downsample is not None:
            shortcut = self.downsample(shortcut)
        x += shortcut
        return self.relu(x)

    def branch(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))


class AdditionInPlace(Pattern):
    """`x += shortcut` and an activation in place overwrite the branch (resnet18)."""

    expected = (("layer.0", "identity"), ("layer.1", "projection"))

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(Basic(4, 4, 1), Basic(4, 6, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        one, two = self.layer
        first = one.branch(x)
        return [first, two.branch((first + x).relu())]


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


class FunctionalDropout(Pattern):
    """Dropout as a function follows its owner's training flag (efficientnet_b0, resmlp)."""

    expected = (("", "identity"),)

    def __init__(self) -> None:
        super().__init__()
        self.body = conv_norm_relu(4)

    def forward(self, x: Tensor) -> Tensor:
        out = F.dropout(self.body(x), 0.5, training=self.training)
        return x + out

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        return [F.dropout(self.body(x), 0.5, training=self.training)]


class PlainLayers(Pattern):
    """Without any addition, layers of equal dimensions have the residue y − x (vgg11)."""

    def __init__(self) -> None:
        super().__init__()
        widths = [4, 4, 6, 6]
        layers: list[nn.Module] = []
        for channels, out in pairwise(widths):
            layers += [conv(channels, out), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)

    def residues(self, x: Tensor) -> Sequence[Tensor]:
        first = self.features[0](x).relu()
        second = self.features[2](first).relu()
        return [first - x, self.features[4](second).relu() - second]


class NotPositionEmbedding(Pattern):
    """A learned position embedding is no residual."""

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
    """x·cos + rotated x·sin is no residual, in the model's own forward either."""

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
    """A bias added by hand is no residual."""

    shape = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(6, 8)), nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.bias


class NotAffine(Pattern):
    """scale·x + bias is no residual (resmlp's Affine)."""

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


PATTERNS = {pattern.__name__: pattern for pattern in Pattern.__subclasses__()}
"""Every pattern, by name."""
