"""Auxiliary classifiers, which read the hidden state between two parts."""

from collections.abc import Sequence

import torch
from torch import nn

from fxtransport.ir import HeadKind, HeadSpec, Layout

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}

POOLED = 2
"""Positions per spatial dimension after a convolutional head's pooling.

DGL pools to 2×2 as well. With one position only, the batch norm after it would refuse a batch
of one in train mode, which the model itself may accept.
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
