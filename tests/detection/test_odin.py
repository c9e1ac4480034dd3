"""ODIN's score is observed with the model at hand."""

import numpy as np
import pytest
import torch

from fxtransport import image_extractor
from fxtransport.detection.odin import Odin, OdinScores
from fxtransport.errors import UsageError
from tests.networks import Net


def test_scores_are_those_by_hand() -> None:
    model = Net(dropout=0.5)
    extract = image_extractor(model, torch.zeros(2, 3, 8, 8), mean=(0.4,) * 3, std=(0.3,) * 3)
    images = torch.rand(5, 3, 8, 8)
    observed = extract.observe(
        [images[:3], images[3:]], further={"odin": OdinScores(extract, 0.05, 10.0)}
    )
    assert extract.program.training
    model.eval()

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return model((x - 0.4) / 0.3) / 10.0

    x = images.clone().requires_grad_()
    logits = scaled(x)
    loss = torch.nn.functional.cross_entropy(logits, logits.argmax(1), reduction="sum")
    (slope,) = torch.autograd.grad(loss, x)
    expected = -scaled(images - 0.05 * slope.sign()).softmax(1).max(1).values
    found = Odin().fit(observed, held_out=0.4).score(observed)
    assert found.shape == (5,)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-4)


def test_settings_are_checked() -> None:
    extract = image_extractor(Net(), torch.zeros(2, 3, 8, 8))
    for options in ({"eps": -1.0}, {"eps": float("nan")}, {"temperature": 0.0}):
        with pytest.raises(UsageError, match="eps is 0 or more and temperature above 0"):
            OdinScores(extract, **options)
