"""A network with all that one detector reads, as attacks on both see them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from fxtransport.detection.adaptive.watched import Watched
from fxtransport.detection.detector import Detector
from fxtransport.detection.extractor import Extractor
from fxtransport.detection.laplacian import laplacian
from fxtransport.detection.observations import Observations

FURTHER: Mapping[str, Callable[[Tensor], Tensor]] = {"laplacian": laplacian}
"""What is taken of pixels with gradients."""
WITHOUT = ("nss", "odin", "stability")
"""The arrays that have no gradients of pixels."""


class Reading(nn.Module):
    """From pixels, B×C×H×W from 0 to 1, to logits, and what a detector reads, side by side: B×F.

    Args:
        extractor: Of the network; differentiable where gradients are wanted.
        reads: The names of the arrays; see :attr:`Detector.reads`.
        further: What is taken of the pixels themselves, by name; by default :data:`FURTHER`.
    """

    def __init__(
        self,
        extractor: Extractor,
        reads: tuple[str, ...],
        further: Mapping[str, Callable[[Tensor], Any]] = MappingProxyType(FURTHER),
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.reads = reads
        self.further = {name: take for name, take in further.items() if name in reads}
        self.widths: dict[str, int] = {}
        """How many columns of the features are of which array."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logits, B×classes, and the features, B×F.

        Raises:
            UsageError: see :meth:`Extractor.forward`.
        """
        arrays = self.extractor(images)
        kept = {
            name: value
            for name, value in arrays.items()
            if name in self.reads or name.partition(".")[0] in self.reads
        }
        for name, take in self.further.items():
            kept[name] = torch.as_tensor(take(images)).to(images.device, torch.float32)
        self.widths = {name: value.shape[1] for name, value in kept.items()}
        return arrays["logits"], torch.cat([*kept.values()], 1)

    def observations(self, logits: Tensor, features: Tensor) -> Observations:
        """What the detector reads, of logits and features that :meth:`forward` has returned.

        Raises:
            UsageError: they hold NaN or infinities.
        """
        parts = features.split([*self.widths.values()], 1)
        values = {"logits": logits, **dict(zip(self.widths, parts, strict=True))}
        return Observations({name: value.detach().cpu().numpy() for name, value in values.items()})

    def watched_by(self, detector: Detector, threshold: float) -> Watched:
        """The network, watched by a fitted detector.

        Args:
            detector: One that reads these arrays.
            threshold: What the scores of flagged images exceed.
        """

        def flag(logits: Tensor, features: Tensor) -> Tensor:
            scores = detector.score(self.observations(logits, features))
            return torch.from_numpy(scores > threshold)

        return Watched(self, flag)
