"""Auxiliary classifiers, which read the hidden state between two parts."""

from collections.abc import Sequence

import torch
from torch import nn

from fxtransport.ir import HeadKind, HeadSpec, Layout

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}

POOLED = 2
"""Positions per spatial dimension that the linear layer of a convolutional head reads.

DGL pools to 2×2 as well. With one position only, batch norm would refuse a batch of one in train
mode, which the model itself may accept.
"""


def build_head(spec: HeadSpec) -> nn.Module:
    """The head that a specification describes, with new parameters.

    Its forward takes the tensors at ``spec.inputs`` of the hidden state, each as an argument
    of its own, and returns logits of shape B×num_classes. Its parameters are of ``spec.dtype``.

    Raises:
        ValueError: the specification is not of an auxiliary head.
    """
    head: nn.Module
    match spec.kind:
        case HeadKind.CONV:
            head = ConvHead(
                spec.channels[0],
                spec.width,
                spec.num_classes,
                spec.layouts[0],
                spec.dims,
                pooled=spec.pooled,
            )
        case HeadKind.DGL:
            head = DglHead(
                spec.channels[0], spec.width, spec.num_classes, spec.layouts[0], spec.dims
            )
        case HeadKind.TOKEN:
            head = TokenHead(spec.channels, spec.num_classes, spec.layouts)
        case _:
            raise ValueError(
                f"a head of kind {spec.kind} is not an auxiliary head, so there is nothing to build"
            )
    dtype = dtype_of(spec)
    # fake tensors, on which costs may be counted, cannot be converted
    return head if next(head.parameters()).dtype == dtype else head.to(dtype)


def dtype_of(spec: HeadSpec) -> torch.dtype:
    """The dtype of a head."""
    found = getattr(torch, spec.dtype)
    assert isinstance(found, torch.dtype), "facts name dtypes of torch"
    return found


class ConvHead(nn.Module):
    """A convolutional head that costs little: the map is pooled before anything else.

    Average pool, then 1×1 and 3×3 convolution, each with batch norm and ReLU, then average
    pool to two positions per dimension, as in DGL, and linear. What it saves for backward does
    not grow with the map, and it does not save the map itself.

    Args:
        channels: Channels of the hidden map.
        width: Channels inside.
        num_classes: Logits.
        layout: Where the map keeps its channels.
        dims: Spatial dimensions of the map, 1 to 3.
        pooled: Positions per spatial dimension after the first pooling, at least 2.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        num_classes: int,
        layout: Layout = Layout.CHANNELS_FIRST,
        dims: int = 2,
        *,
        pooled: int = 4,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.pooled = pooled
        self.reduce = _CONV[dims](channels, width, kernel_size=1, bias=False)
        self.reduce_norm = _NORM[dims](width)
        self.conv = _CONV[dims](width, width, kernel_size=3, padding=1, bias=False)
        self.norm = _NORM[dims](width)
        self.act = nn.ReLU()
        self.linear = nn.Linear(width * POOLED**dims, num_classes)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits, B×num_classes, of a map, B×C×H×W or B×H×W×C."""
        if self.layout is Layout.CHANNELS_LAST:
            hidden = hidden.movedim(-1, 1)
        reduced = self.reduce(_pool(hidden, self.pooled))
        found = self.conv(self.act(self.reduce_norm(reduced)))
        pooled = _pool(self.act(self.norm(found)), POOLED)
        logits: torch.Tensor = self.linear(pooled.flatten(1))
        return logits


def _pool(maps: torch.Tensor, count: int) -> torch.Tensor:
    """Average pooling of maps, B×C×…, to so many positions in each spatial dimension."""
    for dim in range(2, maps.dim()):
        maps = average_windows(maps, dim, count)
    return maps


def average_windows(x: torch.Tensor, dim: int, count: int) -> torch.Tensor:
    """Adaptive average pooling along one dimension, of which autograd saves no activation.

    The windows are those of ``torch.nn.AdaptiveAvgPool1d``, whose backward keeps its input only
    to know its shape.

    Args:
        x: Any shape, floating-point.
        dim: The dimension that is pooled, not negative.
        count: Its size afterwards.

    >>> average_windows(torch.tensor([[1.0, 2.0, 3.0]]), 1, 2)
    tensor([[1.5000, 2.5000]])
    """
    size = x.shape[dim]
    if size == count:
        return x
    if size % count == 0:
        width = size // count
        # of a mean, autograd divides the gradient after it has grown to the size of x
        means: torch.Tensor = x.unflatten(dim, (count, width)).sum(dim + 1) / width
        return means
    step, places = torch.arange(count, device=x.device), torch.arange(size, device=x.device)
    first = step * size // count
    after = -(-(step + 1) * size // count)
    inside = ((places >= first[:, None]) & (places < after[:, None])).to(x.dtype)
    weights = inside / inside.sum(1, keepdim=True)
    averaged: torch.Tensor = x.movedim(dim, -1) @ weights.t()
    return averaged.movedim(-1, dim)


class DglHead(nn.Module):
    """3×3 convolution, ReLU, average pool, batch norm, linear (DGL; THESIS 4.5.1, code).

    The convolution goes to ``width`` channels, not to as many as the map has: at 2048 it
    alone would have 37.7 M parameters.

    Args:
        channels: Channels of the hidden map.
        width: Channels inside.
        num_classes: Logits.
        layout: Where the map keeps its channels.
        dims: Spatial dimensions of the map, 1 to 3.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        num_classes: int,
        layout: Layout = Layout.CHANNELS_FIRST,
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.conv = _CONV[dims](channels, width, kernel_size=3, padding=1, bias=False)
        self.act = nn.ReLU()
        self.pool = _POOL[dims](POOLED)
        self.norm = _NORM[dims](width)
        self.linear = nn.Linear(width * POOLED**dims, num_classes)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits, B×num_classes, of a map, B×C×H×W or B×H×W×C."""
        if self.layout is Layout.CHANNELS_LAST:
            hidden = hidden.movedim(-1, 1)
        pooled = self.norm(self.pool(self.act(self.conv(hidden))))
        logits: torch.Tensor = self.linear(pooled.flatten(1))
        return logits


class TokenHead(nn.Module):
    """Layer norm, mean over positions, linear; over several tensors side by side.

    Args:
        channels: Channels of each hidden tensor.
        num_classes: Logits.
        layouts: Where each keeps its channels.
    """

    def __init__(
        self, channels: Sequence[int], num_classes: int, layouts: Sequence[Layout]
    ) -> None:
        super().__init__()
        self.layouts = tuple(layouts)
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in channels)
        self.linear = nn.Linear(sum(channels), num_classes)

    def forward(self, *hidden: torch.Tensor) -> torch.Tensor:
        """Logits, B×num_classes, of tensors of any number of positions."""
        parts = zip(self.norms, hidden, self.layouts, strict=True)
        means = [_mean(norm, x, layout) for norm, x, layout in parts]
        logits: torch.Tensor = self.linear(torch.cat(means, dim=1))
        return logits


def _mean(norm: nn.Module, hidden: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Normalized channels, averaged over positions: B×C."""
    if layout is Layout.CHANNELS_FIRST:
        hidden = hidden.movedim(1, -1)
    normalized: torch.Tensor = norm(hidden)
    return normalized if layout is Layout.VECTOR else normalized.flatten(1, -2).mean(1)
