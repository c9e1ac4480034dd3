"""The methods written out, block by block, without the library: what it is compared with.

Networks of pre-activation and post-activation blocks, with and without downsampling, and
their training end to end and part by part, with the optimizer written out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES, CHANNELS = 3, 4


class Values(NamedTuple):
    """Of a residual block."""

    skip: Tensor
    branch: Tensor
    output: Tensor
    identity: bool
    """Whether the skip is the block's input."""


class PreActivation(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x))))))."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(out)
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.shortcut = None if channels == out else nn.Conv2d(channels, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.norm1(x), inplace=True))
        out = self.conv2(F.relu(self.norm2(out), inplace=True))
        out += x if self.shortcut is None else self.shortcut(x)
        return out

    def values(self, x: Tensor) -> Values:
        """The same without writing anything."""
        skip = x if self.shortcut is None else self.shortcut(x)
        branch = self.conv2(self.norm2(self.conv1(self.norm1(x).relu())).relu())
        return Values(skip, branch, skip + branch, self.shortcut is None)


class PostActivation(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x))))))."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.act = nn.ReLU(inplace=True)
        self.shortcut = None if channels == out else nn.Conv2d(channels, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        out += x if self.shortcut is None else self.shortcut(x)
        activated: Tensor = self.act(out)
        return activated

    def values(self, x: Tensor) -> Values:
        """The same without writing anything."""
        skip = x if self.shortcut is None else self.shortcut(x)
        branch = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return Values(skip, branch, (skip + branch).relu(), self.shortcut is None)


Block = PreActivation | PostActivation


class Net(nn.Module):
    """A stem, four blocks, and a linear classifier."""

    def __init__(self, block: type[Block], downsampling: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, CHANNELS, 3, padding=1)
        last = 2 * CHANNELS if downsampling else CHANNELS
        self.blocks = nn.Sequential(
            block(CHANNELS, CHANNELS),
            block(CHANNELS, CHANNELS),
            block(CHANNELS, last, 2 if downsampling else 1),
            block(last, last),
        )
        self.head = nn.Linear(last, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


class PlainHead(nn.Module):
    """Average pool to 2×2, 1×1 and 3×3 convolution with batch norm and ReLU each, linear."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        width, channels = state["reduce.weight"].shape[:2]
        self.reduce = nn.Conv2d(channels, width, 1, bias=False)
        self.reduce_norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.linear = nn.Linear(4 * width, CLASSES)
        self.double().load_state_dict(state)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, 2)
        reduced = self.reduce_norm(self.reduce(pooled)).relu()
        found = self.norm(self.conv(reduced)).relu()
        logits: Tensor = self.linear(found.flatten(1))
        return logits


@dataclass
class Rule:
    """How L and C are combined; λ and the number of iterations."""

    method: Literal["lap", "fixed", "trgl", "trgl-multipliers", "vangl"]
    value: float = 1.0
    rate: float = 0.0
    every: int = 1
    order: Literal["code", "text"] = "code"
    iteration: int = 0

    def combine(self, loss: Tensor, cost: Tensor) -> Tensor:
        self.iteration += 1
        if self.method in ("lap", "trgl-multipliers"):
            done = self.iteration if self.order == "code" else self.iteration - 1
            if done > 0 and done % self.every == 0:
                self.value += self.rate * loss.item()
        match self.method:
            case "lap":
                return loss + cost / self.value
            case "fixed":
                return loss + self.value * cost
            case "trgl":
                return loss + cost / (2 * self.value)
            case "trgl-multipliers":
                return self.value * loss + cost
        return loss


class Record(NamedTuple):
    """One step of one part."""

    part: int
    loss: Tensor
    cost: Tensor | None
    """None if it was not measured."""
    value: float
    gradients: dict[str, Tensor]


@dataclass
class Plain:
    """A network that trains part by part, or as one."""

    net: Net
    heads: list[PlainHead]
    rules: list[Rule]
    cuts: Sequence[int] = (0, 2, 4)
    """The first block of each part, and the end of the last."""
    displacement: bool = False
    """Penalize x_{m+1} - x_m of identity blocks instead of every branch."""
    smoothing: float = 0.0
    lr: float = 0.05
    momentum: float = 0.9
    decay: float = 1e-3
    velocity: dict[str, Tensor] = field(default_factory=dict)

    def parameters(self, k: int) -> dict[str, nn.Parameter]:
        """Those of part k, by their names in the program's part."""
        found = {}
        for name, parameter in self.net.named_parameters():
            block = int(name.split(".")[1]) if name.startswith("blocks.") else None
            at_end = name.startswith("head.") and k == len(self.cuts) - 2
            inside = block is not None and self.cuts[k] <= block < self.cuts[k + 1]
            if inside or at_end or (name.startswith("stem.") and k == 0):
                found[name] = parameter
        if k < len(self.heads):
            head = self.heads[k].named_parameters()
            found |= {f"auxiliary_head.{name}": parameter for name, parameter in head}
        return found

    def run(self, k: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden state, logits and transport cost of part k."""
        x = self.net.stem(x) if k == 0 else x
        cost = x.new_zeros(())
        for block in self.net.blocks[self.cuts[k] : self.cuts[k + 1]]:
            assert isinstance(block, Block)
            values = block.values(x)
            if not self.displacement:
                cost = cost + (values.branch**2).mean()
            elif values.identity:
                cost = cost + ((values.output - x) ** 2).mean()
            x = values.output
        head = self.heads[k] if k < len(self.heads) else None
        logits = self.net.head(x.mean((2, 3))) if head is None else head(x)
        return x, logits, cost

    def step(self, k: int, x: Tensor, targets: Tensor) -> tuple[Tensor, Record]:
        """One step of SGD with momentum; returns what the next part reads."""
        hidden, logits, cost = self.run(k, x)
        goal = F.one_hot(targets, CLASSES).double()
        goal = goal * (1 - self.smoothing) + self.smoothing / CLASSES
        loss = -(goal * logits.log_softmax(1)).sum(1).mean()
        total = self.rules[k].combine(loss, cost)
        parameters = self.parameters(k)
        found = torch.autograd.grad(total, list(parameters.values()))
        gradients = dict(zip(parameters, found, strict=True))
        with torch.no_grad():
            for name, parameter in parameters.items():
                change = gradients[name] + self.decay * parameter
                key = f"{k} {name}"
                if key in self.velocity:
                    change = self.momentum * self.velocity[key] + change
                self.velocity[key] = change
                parameter.sub_(self.lr * change)
        record = Record(k, loss.detach(), cost.detach(), self.rules[k].value, gradients)
        return hidden.detach(), record

    def parallel(self, batches: Sequence[tuple[Tensor, Tensor]]) -> Iterator[Record]:
        """Every part makes a step on every batch."""
        for images, targets in batches:
            x = images
            for k in range(len(self.cuts) - 1):
                x, record = self.step(k, x, targets)
                yield record

    def sequential(
        self, batches: Sequence[tuple[Tensor, Tensor]], laps: int = 1
    ) -> Iterator[Record]:
        """Part by part, on all batches; the parts before are frozen in eval mode."""
        for _ in range(laps):
            for k in range(len(self.cuts) - 1):
                for images, targets in batches:
                    x = images
                    self.net.eval()
                    with torch.no_grad():
                        for before in range(k):
                            x, _, _ = self.run(before, x)
                    self.net.train()
                    yield self.step(k, x, targets)[1]


def batches_of(count: int, size: int = 6, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Random images and classes, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(size, 2, 6, 6, generator=generator, dtype=torch.float64),
            torch.randint(CLASSES, (size,), generator=generator),
        )
        for _ in range(count)
    ]
