"""The first adaptive attack: decisions of network and detector are all that is seen."""

import torch
from torch import Tensor, nn

from fxtransport.detection.adaptive.watched import (
    BATCH,
    Evasion,
    Progress,
    Watched,
    detected_rows,
    evasion,
    silent,
)
from fxtransport.detection.attacks.attack import Goal
from fxtransport.detection.attacks.attacked_set import AttackedSet
from fxtransport.detection.attacks.decision_attacks import HopSkipJump
from fxtransport.detection.attacks.undisturbed import undisturbed


class WithDetectedClass(nn.Module):
    """A classifier with one class more, the last, for what the detector flags.

    Args:
        watched: The network and its detector.
    """

    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self.watched = watched
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """One at the place of the decision, zero elsewhere: B×(classes + 1)."""
        logits, _, flags = self.watched.judge(images)
        classes = logits.shape[1]
        decisions = logits.argmax(1).masked_fill(flags, classes)
        return nn.functional.one_hot(decisions, classes + 1).float()


def evade_by_decisions(
    watched: Watched,
    attacked: AttackedSet,
    attack: HopSkipJump | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Evasion:
    """HopSkipJump on network and detector, from images that fool one and not the other.

    Each image x̃ of class y that the network takes for ỹ and the detector finds is moved: the
    attack looks for the image nearest to x̃ that is taken for ỹ and not found, where network and
    detector are one black box with an additional class "detected" (THESIS 5.4.5, first attack).
    It begins at the nearest clean image that is taken for ỹ and not found; where there is none,
    the image is left as it is.

    Args:
        watched: The network and its detector; decisions alone are used.
        attacked: Images of a strong attack on the network alone, such as CW.
        attack: HopSkipJump with its settings; by default as published, 50 steps and at most
            10000 evaluations for a gradient.
        seed: Determines what is random.
        progress: Is told how many detected images are attacked.

    Raises:
        UsageError: the attack was on another network, or foolbox is not installed.
    """
    attack = attack or HopSkipJump()
    device = attacked.clean.device
    with undisturbed(watched.module, device, seed):
        rows = detected_rows(watched, attacked)
        black_box = WithDetectedClass(watched)
        starts = _clean_starts(black_box, attacked, rows)
        goal = Goal(attacked.labels[rows], attacked.after[rows])
        found = attacked.attacked[rows]
        for places in torch.arange(len(rows), device=device).split(BATCH) if len(rows) else ():
            images, own = attacked.attacked[rows[places]], goal.take(places)
            found[places] = attack.approach(black_box, images, starts[places], own)
            progress(int(places[-1]) + 1, len(rows))
        return evasion(watched, attacked, rows, found)


def _clean_starts(black_box: nn.Module, attacked: AttackedSet, rows: Tensor) -> Tensor:
    """The nearest clean image of each wanted class that is not detected; NaN if none is."""
    starts = torch.full_like(attacked.attacked[rows], float("nan"))
    decisions = black_box(attacked.clean).argmax(1)
    for place, row in enumerate(rows.tolist()):
        good = attacked.clean[decisions == attacked.after[row]]
        if len(good):
            distances = (good - attacked.attacked[row]).flatten(1).norm(dim=1)
            starts[place] = good[distances.argmin()]
    return starts
