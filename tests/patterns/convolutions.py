"""Residual additions of maps, as convolutional networks write them."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.patterns.base import Pattern, conv, conv_norm_relu


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
