"""A classifier of pixels: normalization is inside."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fxtransport.errors import UsageError
from fxtransport.outputs import find_logits


class PixelModel(nn.Module):
    """From pixels, B×C×H×W from 0 to 1, to logits, B×classes.

    Args:
        model: A classifier of normalized images; it may return its logits among other things.
        mean: The mean of each channel, or of all, which is subtracted first.
        std: The standard deviation of each channel, or of all, by which is divided then.

    Raises:
        UsageError: a deviation is not above 0, or there are other numbers of the two.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, model: nn.Module, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)
    ) -> None:
        super().__init__()
        if len(mean) != len(std) or not all(value > 0 for value in std):
            raise UsageError(
                f"mean {tuple(mean)} and std {tuple(std)} are as many, with deviations above 0"
            )
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """The logits, B×classes.

        Raises:
            UsageError: the model does not return logits.
        """
        returned = self.model((images - self.mean) / self.std)
        logits = find_logits(returned, lambda value: isinstance(value, Tensor))
        if logits is None or logits.dim() != 2:
            raise UsageError(
                f"{type(self.model).__name__} does not return logits of shape B×classes; an "
                "attack needs a classifier"
            )
        # a view of a cached tensor must not be written to by an attack
        return torch.clone(logits)
