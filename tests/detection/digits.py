"""What is observed of digits by a small residual network, clean and attacked, by hand."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from fxtransport.detection.laplacian import laplacian
from fxtransport.detection.nss import nss
from fxtransport.detection.observations import Observations
from fxtransport.nets.blocks import PreActBlock
from fxtransport.nets.networks import resnet_m

TRAINED, EPOCHS, EPSILON = 600, 12, 0.1


@dataclass(frozen=True)
class Digits:
    """What is observed of digits that the network was not trained on.

    Attributes:
        clean: Of 1197 digits.
        attacked: Of those of them that FGM changed such that the network is fooled.
        accuracy: The network's, on the clean ones.
    """

    clean: Observations
    attacked: Observations
    accuracy: float


@cache
def digits() -> Digits:
    """Train, attack and observe, once for all tests: some seconds."""
    threads = torch.get_num_threads()
    # several only wait for each other on what is so small
    torch.set_num_threads(1)
    try:
        return _digits()
    finally:
        torch.set_num_threads(threads)


def _digits() -> Digits:
    images, classes = loaded()
    model = trained(images[:TRAINED], classes[:TRAINED])
    own, labels = images[TRAINED:], classes[TRAINED:]
    changed = fgm(model, own, labels, EPSILON)
    right = predicted(model, own) == labels
    fooled = right & (predicted(model, changed) != labels)
    names = hashes(own)
    return Digits(
        observed(model, own, names),
        observed(model, changed[fooled], [n for n, f in zip(names, fooled, strict=True) if f]),
        float(right.float().mean()),
    )


def loaded() -> tuple[Tensor, Tensor]:
    """All digits in a seeded order: N×1×8×8, in [0, 1], and their classes."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = torch.from_numpy(found.images[order]).float().unsqueeze(1) / 16
    return images, torch.from_numpy(found.target[order]).long()


def trained(images: Tensor, classes: Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = resnet_m(4, channels=8, image_size=8, gain=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[rows]), classes[rows]).backward()
            optimizer.step()
    return model.eval()


def predicted(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images).argmax(1)


def fgm(model: nn.Module, images: Tensor, classes: Tensor, epsilon: float) -> Tensor:
    """x + ε sign of the gradient of the loss, in [0, 1]."""
    moved = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(model(moved), classes), moved)
    return (images + epsilon * slope.sign()).clamp(0, 1)


def hashes(images: Tensor) -> list[str]:
    return [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images]


def observed(model: nn.Module, images: Tensor, sources: Sequence[str] = ()) -> Observations:
    """Logits, the residues' numbers, the means of activations after blocks, and the image's."""
    residues: list[Tensor] = []
    blocks = [block for block in model.modules() if isinstance(block, PreActBlock)]
    layers: list[Tensor] = []
    hooks = [b.branch.register_forward_hook(lambda _, __, y: residues.append(y)) for b in blocks]
    hooks += [b.register_forward_hook(lambda _, __, y: layers.append(y)) for b in blocks]
    with torch.no_grad():
        logits = model(images)
    for hook in hooks:
        hook.remove()
    columns = []
    for residue in residues:
        flat = residue.flatten(1)
        columns += [flat.square().mean(1), F.cosine_similarity(flat, torch.ones_like(flat))]
    values = {
        "transport": torch.stack(columns, 1),
        "logits": logits,
        "laplacian": laplacian(images),
        "nss": nss(images),
        **{f"layer.{at}": layer.mean((2, 3)) for at, layer in enumerate(layers)},
    }
    return Observations(
        {name: value.numpy() for name, value in values.items()},
        tuple(hashes(images)),
        tuple(sources),
    )
