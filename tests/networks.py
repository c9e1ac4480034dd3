"""The small networks that tests share, each defined once.

This file needs nothing but torch: tests of the command line and of saved programs copy it, and
name the networks as ``nets.py:Net``.
"""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """A residual block with what has state and, with dropout, randomness."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.drop(self.norm(self.conv(x)).relu())
        return x + branch


class Net(nn.Module):
    """A stem, blocks, and a linear classifier of the mean over the map."""

    def __init__(
        self,
        blocks: int = 4,
        classes: int = 5,
        *,
        width: int = 4,
        dropout: float = 0.0,
        input_size: tuple[int, int, int] = (3, 8, 8),
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.stem = nn.Conv2d(input_size[0], width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width, dropout) for _ in range(blocks)))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


class DigitsNet(Net):
    """Reads digits, with dropout, so that its numbers depend on the generators."""

    def __init__(self, blocks: int = 4, classes: int = 10) -> None:
        super().__init__(blocks, classes, width=8, dropout=0.1, input_size=(1, 8, 8))


class Both(nn.Module):
    """A block with two additions, so that a cut may fall inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(x)
        y: Tensor = x + self.second(x)
        return y


class Twice(Net):
    """Two blocks with two additions each."""

    def __init__(self) -> None:
        super().__init__(0)
        self.blocks = nn.Sequential(Both(), Both())


class Plain(nn.Sequential):
    """No additions, but layers that keep their shape."""

    input_size = (4, 8, 8)

    def __init__(self) -> None:
        units = (m for _ in range(4) for m in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()))
        super().__init__(*units, nn.Flatten(), nn.Linear(256, 5))


class Neither(nn.Sequential):
    """Neither additions nor layers that keep their shape."""

    input_size = (8,)

    def __init__(self) -> None:
        super().__init__(nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5))


class Chatty(Net):
    """Prints while it is built and while it runs."""

    def __init__(self) -> None:
        print("built")  # noqa: T201
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        print("run")  # noqa: T201
        return super().forward(x)


class Raises(Net):
    """Fails in its forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("width")


class Decides(Net):
    """Decides on the values of its input."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return super().forward(x)
        logits: Tensor = self.head(self.stem(x).mean((2, 3)))
        return logits


class Detects(nn.Module):
    """A backbone, and a choice by its scores."""

    input_size = (3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Net()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.backbone(x)
        return y[y > 0]


class Sizeless(nn.Linear):
    """Does not say the size of its input."""

    def __init__(self) -> None:
        super().__init__(3, 3)


class Points(nn.Module):
    """Moves points of the plane; its batch norm refuses a batch of one."""

    input_size = (2,)

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(2, 2), nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.norm(self.linear(x))
        return x + branch


class TiedPoints(nn.Module):
    """Moves points of the plane twice, with one weight."""

    input_size = (2,)

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(2, 2), nn.Linear(2, 2)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.one(x).relu()
        y: Tensor = x + self.two(x).relu()
        return y


class VectorBlock(nn.Module):
    """A residual block on vectors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.norm(self.linear(x)).relu()
        return x + branch


class VectorNet(nn.Sequential):
    """Blocks on vectors, and a classifier."""

    def __init__(self, width: int = 6, depth: int = 3) -> None:
        super().__init__(*(VectorBlock(width) for _ in range(depth)), nn.Linear(width, 4))
        self.input_size = (width,)


class Tied(VectorNet):
    """Two blocks share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.get_submodule("1.linear").weight = self.get_submodule("0.linear").weight


class Words(nn.Module):
    """Takes integers, and has a buffer that is not saved."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.blocks = nn.Sequential(*(nn.Sequential(VectorBlock(6)) for _ in range(2)))
        self.register_buffer("scale", torch.ones(6), persistent=False)

    def forward(self, words: Tensor) -> Tensor:
        found: Tensor = self.blocks((self.embedding(words) * self.scale).mean(1))
        return found


class OverwritingBlock(nn.Module):
    """A post-activation residual block that adds and activates in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.conv(x))
        out += x
        activated: Tensor = self.act(out)
        return activated


class OverwritingNet(nn.Module):
    """A stem, four blocks that overwrite, and a root that owns a parameter, a buffer and dropout.

    Give it images of :data:`IMAGES`' shape.
    """

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("shift", torch.zeros(4))
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(*(OverwritingBlock(4) for _ in range(4)))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x) * self.scale)
        x = x.mean((2, 3)) + self.shift
        x = nn.functional.dropout(x, 0.5, training=self.training)
        logits: Tensor = self.head(x)
        return logits

    def residues(self, images: Tensor) -> list[Tensor]:
        """The residues of its blocks, computed without the compiler."""
        x = self.stem(images) * self.scale
        found = []
        for block in self.blocks:
            residue = block.get_submodule("norm")(block.get_submodule("conv")(x))
            found.append(residue.clone())
            x = torch.relu(residue + x)
        return found


IMAGES = torch.zeros(2, 3, 8, 8)
"""Two images for the networks of three channels."""


class Masked(nn.Module):
    """A transformer layer in small: optional arguments, of which some are skipped."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)
        self.linear, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(
        self,
        ids: Tensor | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        scale: float = 1.0,
    ) -> Tensor:
        assert ids is not None
        x = self.table(ids)
        if positions is not None:
            x = x + self.table(positions)
        x = x + self.linear(x).relu() * scale
        if mask is not None:
            x = x * mask[..., None]
        logits: Tensor = self.head(x.mean(1))
        return logits
