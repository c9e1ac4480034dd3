"""Features that are not detected are found, and an image that has them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fxtransport.detection.adaptive import FeatureMatch, Watched, evade_by_features
from fxtransport.detection.adaptive.feature_match import Scale, _Problem, _undetected_features
from fxtransport.detection.adaptive.watched import detected_rows
from fxtransport.detection.attacks.decision_attacks import HopSkipJump
from fxtransport.errors import UsageError
from tests.detection.adaptive.conftest import Scene

SEARCH = HopSkipJump(steps=3, evaluations=20)


def test_the_scale_goes_both_ways() -> None:
    features = torch.randn(20, 3) * torch.tensor([1e-4, 1.0, 1e4])
    features[:, 1] = 7
    scale = Scale.of(features)
    unit = scale.to_unit(features)
    assert unit.min() >= 0
    assert unit.max() <= 1
    torch.testing.assert_close(scale.back(unit), features)


def test_features_are_found_that_are_not_detected(scene: Scene) -> None:
    watched, attacked = scene.watched, scene.attacked
    rows = detected_rows(watched, attacked)
    logits, features, _ = watched.judge(attacked.attacked[rows])
    wanted, spread = _undetected_features(watched, attacked, rows, SEARCH)
    good = wanted.isfinite().all(1)
    assert good.float().mean() > 0.8
    assert not watched.flag(logits[good], wanted[good]).any()
    _, clean, flags = watched.judge(attacked.clean)
    nearest = torch.cdist(features / spread, clean[~flags] / spread).amin(1)
    found = ((features - wanted) / spread).norm(dim=1)
    # nearer than any clean image, mostly
    assert (found[good] < nearest[good]).float().mean() > 0.6


def test_the_problem_is_equation_42(scene: Scene) -> None:
    attacked = scene.attacked
    settings = FeatureMatch(c1=2.0, c2=3.0)
    wanted, spread = torch.randn(6), torch.rand(6) + 0.5
    problem = _Problem(scene.watched, attacked, 4, wanted, spread, settings)
    image = torch.rand(1, 1, 8, 8).requires_grad_()
    flat = image.detach().double().numpy().reshape(-1)
    value, slope = problem._value_and_slope(flat)
    logits, features = scene.net(image)
    expected = (
        -F.cross_entropy(logits, attacked.labels[4:5])
        + 2 * ((features[0] - wanted) / spread).norm()
        + 3 * (image - attacked.clean[4:5]).norm()
    )
    assert value == pytest.approx(expected.item(), rel=1e-5)
    [by_hand] = torch.autograd.grad(expected, image)
    np.testing.assert_allclose(slope, by_hand.numpy().reshape(-1), rtol=1e-4, atol=1e-4)


def test_some_detected_images_become_undetected(scene: Scene) -> None:
    settings = FeatureMatch(SEARCH, iterations=40)
    found = evade_by_features(scene.watched, scene.attacked, settings)
    assert found.rate > 0.05
    logits, _, flags = scene.watched.judge(found.images[found.evaded])
    assert not flags.any()
    assert (logits.argmax(1) != scene.attacked.labels[found.rows][found.evaded]).all()
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    # a weight of the distance keeps images near
    near = evade_by_features(
        scene.watched, scene.attacked, FeatureMatch(SEARCH, c2=100, iterations=40)
    )
    assert near.after.mean() < found.after.mean()


def test_features_without_gradients_are_refused(scene: Scene) -> None:
    def bare(images: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = scene.net(images)
        return logits, features.detach()

    with pytest.raises(UsageError, match=r"TransportFeatures\(program, differentiable=True\)"):
        evade_by_features(
            Watched(bare, scene.watched.flag), scene.attacked, FeatureMatch(SEARCH, iterations=1)
        )


@pytest.mark.parametrize("settings", [{"c1": -1}, {"c2": float("nan")}, {"iterations": 0}])
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="weights are 0 or more"):
        FeatureMatch(**settings)
