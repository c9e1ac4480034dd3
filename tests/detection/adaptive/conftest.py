"""A residual network that was trained on digits, its features, and a forest that watches it."""

from typing import NamedTuple

import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor, nn
from torch.nn import functional as F

from fxtransport.data import load
from fxtransport.detection.adaptive import Watched
from fxtransport.detection.attacks import AttackedSet, attack_images, make_attack


class Residual(nn.Module):
    """From pixels to logits, and to the energy and the cosine of three residues."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
            for _ in range(3)
        )
        self.classify = nn.Linear(16 * 64, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encode((images - 0.3) / 0.38)
        features = []
        for block in self.blocks:
            moved = block(hidden)
            flat = moved.flatten(1)
            cosine = flat.sum(1) / (flat.norm(dim=1) + 1e-9) / flat.shape[1] ** 0.5
            features += [flat.square().mean(1), cosine]
            hidden = hidden + moved
        return self.classify(hidden.flatten(1)), torch.stack(features, 1)


class Logits(nn.Module):
    """The network without its features."""

    def __init__(self, whole: Residual) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.whole(images)[0]
        return logits


class Scene(NamedTuple):
    """A network and its detector, and an attack on the network alone."""

    net: Residual
    watched: Watched
    attacked: AttackedSet


@pytest.fixture(scope="session")
def scene() -> Scene:
    """Tests may not change it."""
    pixels = {"mean": (0.0,), "std": (1.0,)}
    splits = load("digits", seed=0, batch_size=64, eval_batch_size=360, transform=pixels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Residual()
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        for epoch in range(5):
            for images, labels in splits.train.epoch(epoch):
                optimizer.zero_grad()
                F.cross_entropy(net(images)[0], labels).backward()
                optimizer.step()
    net.eval()
    [(images, labels)] = splits.test
    attack = make_attack("cw", search_steps=4, steps=40)
    fitted = attack_images(attack, Logits(net), images[60:], labels[60:])
    forest = RandomForestClassifier(30, random_state=0)
    with torch.no_grad():
        clean, moved = net(fitted.clean)[1], net(fitted.attacked[fitted.successful])[1]
    truth = [0] * len(clean) + [1] * len(moved)
    forest.fit(torch.cat([clean, moved]).numpy(), truth)

    def flag(logits: Tensor, features: Tensor) -> Tensor:
        return torch.from_numpy(forest.predict_proba(features.numpy())[:, 1] > 0.5)

    attacked = attack_images(attack, Logits(net), images[:60], labels[:60])
    return Scene(net, Watched(net, flag), attacked)
