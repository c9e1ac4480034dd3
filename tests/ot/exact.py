"""Activations of every sort, and the cost of an exact plan between them, in float64."""

from functools import cache

import numpy as np
import ot
import timm
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

CLOSE = 1e-6
"""By how much Ω may differ from the cost of an exact plan, relative to it."""


def costs(student: Tensor, teacher: Tensor, p: float = 1.0) -> Tensor:
    """All costs, without a matrix product and its cancellation."""
    pair = student.detach().double(), teacher.double()
    return torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist") ** p


def exact_cost(student: Tensor, teacher: Tensor, p: float = 1.0) -> float:
    """The cost of an exact plan, by POT's network simplex on all costs."""
    a, b = (np.full(len(side), 1 / len(side)) for side in (student, teacher))
    return float(ot.emd2(a, b, costs(student, teacher, p).numpy(), numItermax=10_000_000))


def activations(count: int, samples: int = 16, seed: int = 0) -> Tensor:
    """Of a layer of ReLUs on a few latent features, as those of networks are."""
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(8, samples, generator=torch.Generator().manual_seed(99))
    return (torch.randn(count, 8, generator=generator) @ latent).relu()


def noise(like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(2))


def repeated() -> tuple[Tensor, Tensor]:
    """Each neuron twice."""
    return activations(20).repeat(2, 1), activations(20, seed=1).repeat(2, 1)


def dead(width: int) -> tuple[Tensor, Tensor]:
    """Some neurons are 0 on all samples, in part the same ones."""
    first, second = activations(40), activations(width, seed=1)
    first[::3], second[::4] = 0, 0
    return first, second


_STUDENT, _TEACHER = activations(40), activations(40, seed=1)
_PAIRS = {
    "unrelated": (_STUDENT, _TEACHER),
    "near": (_TEACHER * (1 + 0.01 * noise(_TEACHER)), _TEACHER),
    "very near": (_TEACHER + 1e-5 * noise(_TEACHER), _TEACHER),
    "dead": dead(40),
    "dead, unequal widths": dead(55),
    "repeated": repeated(),
    "narrow": (_STUDENT[:7], _TEACHER),
    "wide": (_STUDENT, _TEACHER[:33]),
    "far from zero": (_STUDENT + 1000, _TEACHER + 1000),
    "signed": (noise(_STUDENT), noise(_TEACHER[:20])),
    "large": (activations(280, 32), activations(300, 32, seed=1)),
}
SORTS = list(_PAIRS)


def pair_of(sort: str) -> tuple[Tensor, Tensor]:
    """Activations of a student and of a teacher."""
    first, second = _PAIRS[sort]
    return first.clone(), second.clone()


@cache
def photographs() -> Tensor:
    """32 crops of two photographs, 3×64×64."""
    crops = []
    for image in load_sample_images().images:
        values = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        corners = [(y, x) for y in range(0, 256, 64) for x in (0, 99, 180, 300)]
        crops += [values[:, y : y + 64, x : x + 64] for y, x in corners]
    return torch.stack(crops)


@cache
def stages(seed: int, change: float = 0.0) -> tuple[Tensor, ...]:
    """The last three stages of a ResNet-18 on the photographs, averaged over positions: d×32."""
    torch.manual_seed(seed)
    network = timm.create_model("resnet18", features_only=True, out_indices=(2, 3, 4))
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(1 + change * torch.randn_like(weight))
        return tuple(stage.mean((2, 3)).T.contiguous() for stage in network(photographs()))
