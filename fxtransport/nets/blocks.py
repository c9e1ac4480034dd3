"""What the papers' networks are made of."""

from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Shortcut = Literal["pad", "projection"]


class Network(nn.Module):
    """Encoder, blocks, head: F ∘ T ∘ E (THESIS 3.3.1).

    Args:
        encoder: Changes the dimension of the input.
        blocks: Residual blocks, and what changes the dimension between stages.
        head: Gives the logits, B×num_classes.
        input_size: One input's shape.
        num_classes: Of the head.
    """

    def __init__(
        self,
        encoder: nn.Module,
        blocks: Iterable[nn.Module],
        head: nn.Module,
        *,
        input_size: tuple[int, ...],
        num_classes: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.blocks = nn.Sequential(*blocks)
        self.head = head
        self.input_size = input_size
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor:
        """Logits, B×num_classes, of inputs, B×input_size."""
        logits: Tensor = self.head(self.blocks(self.encoder(x)))
        return logits


class PreActBlock(nn.Module):
    """x + branch(x), the branch being two 3×3 convolutions, each behind norm and ReLU.

    "Identity mappings in deep residual networks" (He et al. 2016), figure 1 of THESIS.

    Args:
        channels: Of the map, before and after.
        batch_norm: With batch norm.
        activated: Leave out the first norm and ReLU, as the authors' programs do in the first
            block of each stage; the encoder ends with them.
    """

    def __init__(self, channels: int, *, batch_norm: bool = True, activated: bool = False) -> None:
        super().__init__()
        first = () if activated else (norm2d(channels, batch_norm), nn.ReLU())
        self.branch = nn.Sequential(
            *first,
            conv3x3(channels, channels),
            norm2d(channels, batch_norm),
            nn.ReLU(),
            conv3x3(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """A map of the input's shape, B×C×H×W."""
        branch: Tensor = self.branch(x)
        return x + branch


class BasicBlock(nn.Module):
    """relu(shortcut(x) + branch(x)), with ReLUs in place (He et al. 2015).

    Args:
        in_channels: Of the map before.
        channels: Of the map after.
        stride: Of the first convolution and of the shortcut.
        shortcut: Where the shape changes: ``pad``: every other position, and zeros for the
            new channels (option A, no parameters); ``projection``: a 1×1 convolution and
            batch norm (option B). Elsewhere it is the identity.
        batch_norm: With batch norm in the branch.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        shortcut: Shortcut = "pad",
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv3x3(in_channels, channels, stride),
            norm2d(channels, batch_norm),
            nn.ReLU(inplace=True),
            conv3x3(channels, channels),
            norm2d(channels, batch_norm),
        )
        self.shortcut = _shortcut(in_channels, channels, stride, shortcut)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """A map, B×channels×(H/stride)×(W/stride)."""
        out: Tensor = self.act(self.shortcut(x) + self.branch(x))
        return out


class PadShortcut(nn.Module):
    """Every ``stride``-th position, and zeros behind the channels that there are."""

    def __init__(self, added_channels: int, stride: int) -> None:
        super().__init__()
        self.added_channels = added_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """B×(C + added)×(H/stride)×(W/stride) of B×C×H×W."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, 0, self.added_channels))


class LinearBlock(nn.Module):
    """x + branch(x), the branch being two linear layers with norm and ReLU between.

    THESIS 3.2.2.

    Args:
        dims: Of the points.
        width: Of the layer inside.
        batch_norm: With batch norm.
    """

    def __init__(self, dims: int, width: int, *, batch_norm: bool = False) -> None:
        super().__init__()
        norm = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.branch = nn.Sequential(nn.Linear(dims, width), norm, nn.ReLU(), nn.Linear(width, dims))

    def forward(self, x: Tensor) -> Tensor:
        """Points, B×dims, moved."""
        branch: Tensor = self.branch(x)
        return x + branch


def conv3x3(in_channels: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size, but for the stride."""
    return nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)


def norm2d(channels: int, batch_norm: bool) -> nn.Module:
    """Batch norm, or nothing."""
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


def _shortcut(in_channels: int, channels: int, stride: int, kind: Shortcut) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    if kind == "pad":
        return PadShortcut(channels - in_channels, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
    )
