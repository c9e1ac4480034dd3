"""A gradient attack on the features, for detectors that are fitted on clean images alone."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fxtransport.detection.adaptive.watched import (
    BATCH,
    Evasion,
    Progress,
    Watched,
    detected_rows,
    evasion,
    silent,
)
from fxtransport.detection.attacks.attacked_set import AttackedSet
from fxtransport.detection.attacks.undisturbed import undisturbed
from fxtransport.errors import UsageError

Score = Callable[[Tensor, Tensor], Tensor]
"""From logits and features to how suspicious images are, with gradients: B."""


@dataclass(frozen=True)
class GradientEvasion:
    """Settings of :func:`evade_by_gradients`.

    Args:
        epsilon: The largest change of a pixel of the clean image.
        steps: How many.
        relative_step: The size of the first step as a share of ε; steps become smaller with the
            cosine of their number.
        weight: Of the score, in units of its deviation on clean images, beside the margin.
        confidence: By how much the wrong class must lead.

    Raises:
        UsageError: a value is out of range.
    """

    epsilon: float = 0.1
    steps: int = 200
    relative_step: float = 0.1
    weight: float = 1.0
    confidence: float = 0.1

    def __post_init__(self) -> None:
        good = 0 < self.epsilon <= 1 and self.steps >= 1 and 0 < self.relative_step <= 1
        if not (good and self.weight >= 0 and self.confidence >= 0):
            raise UsageError(
                f"{self}: epsilon and relative_step are above 0 to 1, steps 1 or more, weight and "
                "confidence 0 or more"
            )


def evade_by_gradients(
    watched: Watched,
    attacked: AttackedSet,
    score: Score,
    settings: GradientEvasion | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Evasion:
    """Projected gradient descent on the margin and on a score of the features at once.

    It minimizes max(z_y − max_{c≠y} z_c + κ, 0) + w·s/σ within ε of the clean image x, from
    the attacked image x̃: z are the logits, s is the score and σ its deviation on clean images.
    So where the network is fooled, the score alone decides. The image that is kept is the first
    that fools the network and is not detected.

    Args:
        watched: The network and its detector; the features have gradients.
        attacked: Images of a strong attack on the network alone.
        score: Of the detector, or a :class:`Surrogate` of the attacker.
        settings: Budgets and weights.
        seed: Determines what is random.
        progress: Is told how many detected images are attacked.

    Raises:
        UsageError: the attack was on another network, or the score has no gradients.
    """
    settings = settings or GradientEvasion()
    with undisturbed(watched.module, attacked.clean.device, seed):
        rows = detected_rows(watched, attacked)
        found = attacked.attacked[rows]
        if len(rows):
            logits, features, _ = watched.judge(attacked.clean)
            unit = score(logits, features).detach().std().clamp(min=1e-12)
            weight = settings.weight / unit
            for places in torch.arange(len(rows), device=rows.device).split(BATCH):
                own = rows[places]
                found[places] = _descend(watched, attacked, own, score, settings, weight)
                progress(int(places[-1]) + 1, len(rows))
        return evasion(watched, attacked, rows, found)


def _descend(
    watched: Watched,
    attacked: AttackedSet,
    rows: Tensor,
    score: Score,
    settings: GradientEvasion,
    weight: Tensor,
) -> Tensor:
    clean, labels = attacked.clean[rows], attacked.labels[rows]
    low = (clean - settings.epsilon).clamp(min=0)
    high = (clean + settings.epsilon).clamp(max=1)
    moving = attacked.attacked[rows].clamp(low, high)
    kept = torch.full_like(moving, float("nan"))
    done = torch.zeros(len(rows), dtype=torch.bool, device=clean.device)
    for step in range(settings.steps + 1):
        logits, _, flags = watched.judge(moving)
        new = ~done & ~flags & (logits.argmax(1) != labels)
        kept[new] = moving[new]
        done |= new
        if done.all():
            break
        slope = _slope(watched, moving, labels, score, settings.confidence, weight)
        angle = torch.tensor(torch.pi * step / (settings.steps + 1))
        size = settings.epsilon * settings.relative_step * (1 + angle.cos()) / 2
        moving = (moving - size * slope.sign()).clamp(low, high)
    return kept


def _slope(
    watched: Watched,
    images: Tensor,
    labels: Tensor,
    score: Score,
    confidence: float,
    weight: Tensor,
) -> Tensor:
    images = images.detach().requires_grad_()
    logits, features = watched.extract(images)
    suspicion = score(logits, features)
    if not suspicion.requires_grad:
        raise UsageError(
            "the score has no gradients: give a differentiable extractor, such as "
            "TransportFeatures(program, differentiable=True), and a score of torch operations"
        )
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], float("-inf")).amax(1)
    margin = (own - others + confidence).clamp(min=0)
    [slope] = torch.autograd.grad((margin + weight * suspicion).sum(), images)
    return slope
