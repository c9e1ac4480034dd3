"""A network that is watched by a detector, and what became of attacks on both."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fxtransport.detection.attacks.attacked_set import AttackedSet
from fxtransport.errors import UsageError

Extract = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From pixels, B×C×H×W from 0 to 1, to logits, B×classes, and features, B×F, with gradients."""
Flag = Callable[[Tensor, Tensor], Tensor]
"""From logits, B×classes, and features, B×F, to what the detector flags: B, bool."""
Progress = Callable[[int, int], None]
"""Is told how many images are done, and how many there are."""
BATCH = 128
"""How many images are attacked at once."""


def silent(done: int, count: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, eq=False)
class Watched:
    """A network that is watched by a detector.

    Args:
        extract: The network, with the features that the detector looks at, such as
            ``TransportFeatures(program, differentiable=True)`` with normalization before it.
        flag: What the detector decides.
    """

    extract: Extract
    flag: Flag

    @property
    def module(self) -> nn.Module:
        """What is put into eval mode: the network, if it is a module."""
        return self.extract if isinstance(self.extract, nn.Module) else nn.Identity()

    def judge(self, images: Tensor, batch_size: int = 128) -> tuple[Tensor, Tensor, Tensor]:
        """The logits, the features and the flags of images: B×classes, B×F and B."""
        with torch.no_grad():
            found = [self.extract(batch) for batch in images.split(batch_size)]
        logits, features = (torch.cat(parts) for parts in zip(*found, strict=True))
        flags = self.flag(logits, features).to(device=images.device, dtype=torch.bool)
        return logits, features, flags


@dataclass(frozen=True, eq=False)
class Evasion:
    """What became of attacked images that fooled the network and were detected.

    Attributes:
        rows: Their places among the images of the attack before: R, int64.
        images: The images after the attack on network and detector: R×C×H×W; where it found
            none, as they were.
        evaded: Which of them fool the network and are not detected: R, bool.
        before: The Euclidean distance of each from its clean image before: R.
        after: The distance now.
    """

    rows: Tensor
    images: Tensor
    evaded: Tensor
    before: Tensor
    after: Tensor

    @property
    def rate(self) -> float:
        """The share of detected images that evade now, from 0 to 1; NaN of none."""
        return float(self.evaded.float().mean()) if len(self.rows) else float("nan")

    def rate_within(self, growth: float) -> float:
        """The share that evades and is at most ``growth`` times as far away as before.

        An image that looks like one of another class evades, too, but is no attack: this bounds
        the distance.
        """
        if not len(self.rows):
            return float("nan")
        close = self.after <= growth * self.before
        return float((self.evaded & close).float().mean())


def detected_rows(watched: Watched, attacked: AttackedSet) -> Tensor:
    """The rows of images that fool the network and are detected.

    Raises:
        UsageError: the attack was on another network.
    """
    logits, _, flags = watched.judge(attacked.attacked)
    fooled = logits.argmax(1) == attacked.after
    if not bool(fooled.all()):
        raise UsageError(
            f"the network predicts other classes than the attacked one for "
            f"{int((~fooled).sum())} of {len(attacked)} images: attack the network that is watched"
        )
    return (attacked.successful & flags).nonzero().squeeze(1)


def evasion(watched: Watched, attacked: AttackedSet, rows: Tensor, images: Tensor) -> Evasion:
    """Judge new images, R×C×H×W, in the place of the attacked ones of some rows."""
    clean, before = attacked.clean[rows], attacked.attacked[rows]
    finite = images.isfinite().flatten(1).all(1)
    kept = images.where(finite.reshape(-1, 1, 1, 1), before)
    if len(rows):
        logits, _, flags = watched.judge(kept)
        evaded = finite & ~flags & (logits.argmax(1) != attacked.labels[rows])
    else:
        evaded = finite
    lengths = [(one - clean).flatten(1).norm(dim=1) for one in (before, kept)]
    return Evasion(rows, kept, evaded, *lengths)
