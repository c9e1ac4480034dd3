"""What the networks of the papers are made of."""

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
        head: Computes the logits, B×num_classes.
        input_size: The shape of one input.
        num_classes: How many logits the head has.
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
        """The logits, B×num_classes, of inputs, B×input_size."""
        logits: Tensor = self.head(self.blocks(self.encoder(x)))
        return logits


class PreActBlock(nn.Module):
    """x + branch(x), where the branch is two 3×3 convolutions, each after a norm and a ReLU.

    "Identity mappings in deep residual networks" (He et al. 2016), figure 1 of THESIS.

    Args:
        channels: The channels of the input and the output.
        batch_norm: Whether the norms are batch norms; otherwise there are none.
        activated: Leave out the first norm and ReLU, as the authors' programs do in the first
            block of each stage, because the encoder ends with them.
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
        """A map of the shape of the input, B×C×H×W."""
        branch: Tensor = self.branch(x)
        return x + branch


class BasicBlock(nn.Module):
    """relu(shortcut(x) + branch(x)), with ReLUs in place (He et al. 2015).

    Args:
        in_channels: The channels of the input.
        channels: The channels of the output.
        stride: The stride of the first convolution and of the shortcut.
        shortcut: What the shortcut is where the shape changes: ``pad``, every other position
            and zeros for the new channels (option A, no parameters), or ``projection``, a 1×1
            convolution and batch norm (option B). Elsewhere it is the identity.
        batch_norm: Whether the branch has batch norm.
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
    """Every ``stride``-th position, and zeros after the channels of the input."""

    def __init__(self, added_channels: int, stride: int) -> None:
        super().__init__()
        self.added_channels = added_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """B×(C + added)×(H/stride)×(W/stride) of B×C×H×W."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, 0, self.added_channels))


class LinearBlock(nn.Module):
    """x + branch(x), where the branch is two linear layers with norm and ReLU between.

    THESIS 3.2.2.

    Args:
        dims: The dimension of the points.
        width: The width of the hidden layer.
        batch_norm: Whether the norm is a batch norm; otherwise there is none.
    """

    def __init__(self, dims: int, width: int, *, batch_norm: bool = False) -> None:
        super().__init__()
        norm = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.branch = nn.Sequential(nn.Linear(dims, width), norm, nn.ReLU(), nn.Linear(width, dims))

    def forward(self, x: Tensor) -> Tensor:
        """The points, B×dims, after their displacement."""
        branch: Tensor = self.branch(x)
        return x + branch


def conv3x3(in_channels: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that, except for its stride, keeps the size."""
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
