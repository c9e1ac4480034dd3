"""Gradients of the features evade a detector of clean images."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from fxtransport.detection.adaptive import (
    GradientEvasion,
    Surrogate,
    Watched,
    evade_by_gradients,
)
from fxtransport.errors import UsageError
from tests.detection.adaptive.conftest import Scene


@pytest.fixture(scope="module")
def surrogate(scene: Scene) -> Surrogate:
    logits, features, _ = scene.watched.judge(scene.attacked.clean)
    return Surrogate.fit(logits, features)


def one_class(scene: Scene, surrogate: Surrogate) -> Watched:
    """A detector that flags what is further away than 95 % of clean images."""
    logits, features, _ = scene.watched.judge(scene.attacked.clean)
    limit = surrogate(logits, features).quantile(0.95)
    return Watched(scene.net, lambda z, x: surrogate(z, x).detach() > limit)


def test_the_own_score_is_evaded(scene: Scene, surrogate: Surrogate) -> None:
    watched = one_class(scene, surrogate)
    rates = []
    for weight in (0.0, 1.0):
        settings = GradientEvasion(epsilon=0.3, steps=60, weight=weight)
        found = evade_by_gradients(watched, scene.attacked, surrogate, settings)
        assert len(found.rows) > 5
        rates.append(found.rate)
        clean = scene.attacked.clean[found.rows]
        moved = (found.images - clean).abs().flatten(1).amax(1)
        assert moved[found.evaded].max() <= 0.3 + 1e-6
        assert torch.equal(
            found.images[~found.evaded], scene.attacked.attacked[found.rows][~found.evaded]
        )
    # following the margin alone is of less use
    assert rates[1] > 0.6
    assert rates[1] >= rates[0]


def test_a_forest_is_evaded_through_a_surrogate(scene: Scene, surrogate: Surrogate) -> None:
    settings = [GradientEvasion(epsilon=epsilon, steps=60) for epsilon in (0.02, 0.3)]
    few, many = (
        evade_by_gradients(scene.watched, scene.attacked, surrogate, one).rate for one in settings
    )
    assert many > 0.5
    assert few < many


def test_the_network_is_as_it_was(scene: Scene, surrogate: Surrogate) -> None:
    net = copy.deepcopy(scene.net).train()
    state = torch.get_rng_state()
    watched = Watched(net, scene.watched.flag)
    found = evade_by_gradients(watched, scene.attacked, surrogate, GradientEvasion(steps=3))
    assert len(found.rows) > 10
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert not found.images.requires_grad


def test_a_score_without_gradients_is_refused(scene: Scene) -> None:
    def bare(logits: Tensor, features: Tensor) -> Tensor:
        return features.detach().sum(1)

    with pytest.raises(UsageError, match="the score has no gradients"):
        evade_by_gradients(scene.watched, scene.attacked, bare, GradientEvasion(epsilon=0.01))


@pytest.mark.parametrize(
    "settings", [{"epsilon": 0}, {"steps": 0}, {"relative_step": 2}, {"weight": -1}]
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="epsilon and relative_step are above 0 to 1"):
        GradientEvasion(**settings)
