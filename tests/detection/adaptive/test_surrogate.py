"""The surrogate is Mahalanobis' distance with gradients."""

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf

from fxtransport.detection.adaptive import Surrogate
from fxtransport.detection.adaptive.surrogate import log_energies
from fxtransport.errors import UsageError


def test_distances_are_those_of_mahalanobis() -> None:
    torch.manual_seed(0)
    features = torch.randn(300, 4) @ torch.randn(4, 4)
    logits = torch.randn(300, 3)
    surrogate = Surrogate.fit(logits, features, lambda values: values)
    predicted = logits.argmax(1)
    centers = torch.stack([features[predicted == number].mean(0) for number in range(3)])
    around = (features - centers[predicted]).double()
    scale = around.std(0)
    covariance, _ = ledoit_wolf((around / scale).numpy(), assume_centered=True)
    inverse = torch.from_numpy(np.linalg.inv(covariance))
    scaled = around / scale
    expected = torch.einsum("bi,ij,bj->b", scaled, inverse, scaled).sqrt()
    torch.testing.assert_close(surrogate(logits, features).double(), expected, rtol=1e-3, atol=1e-4)
    moving = features.clone().requires_grad_()
    surrogate(logits, moving).sum().backward()
    assert moving.grad is not None
    assert moving.grad.abs().sum() > 0


def test_a_rare_class_has_the_center_of_all() -> None:
    features, logits = torch.randn(50, 2), torch.zeros(50, 3)
    logits[:, 0] = 1
    logits[:5, 2] = 2
    surrogate = Surrogate.fit(logits, features, lambda values: values)
    torch.testing.assert_close(surrogate.centers[2], features.mean(0))
    torch.testing.assert_close(surrogate.centers[0], features[5:].mean(0))
    # at its center the distance has a gradient, too
    center = surrogate.centers[:1].clone().requires_grad_()
    surrogate(torch.tensor([[1.0, 0, 0]]), center).sum().backward()
    assert center.grad is not None
    assert center.grad.isfinite().all()


def test_energies_are_logarithms() -> None:
    features = torch.tensor([[1.0, 0.5, 0.0, -0.5]])
    found = log_energies(features)
    assert found[0, [0, 1, 3]].tolist() == [0, 0.5, -0.5]
    assert found.isfinite().all()


def test_few_images_are_refused() -> None:
    with pytest.raises(UsageError, match="19 clean images are too few"):
        Surrogate.fit(torch.randn(19, 3), torch.randn(19, 4))
