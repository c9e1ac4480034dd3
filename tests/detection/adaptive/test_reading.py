"""What a detector reads, side by side, with gradients, and taken apart again."""

from functools import cache

import numpy as np
import torch

from fxtransport import image_extractor
from fxtransport.detection import Extractor
from fxtransport.detection.adaptive import Reading
from fxtransport.detection.laplacian import laplacian
from fxtransport.detection.one_class import OneClass
from tests.networks import Net


@cache
def extractor() -> Extractor:
    return image_extractor(
        Net(2), torch.zeros(2, 3, 8, 8), mean=(0.5,) * 3, std=(0.25,) * 3, differentiable=True
    )


IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_arrays_are_those_of_observations() -> None:
    observed = extractor().observe([IMAGES], further={"laplacian": laplacian})
    for reads in (("transport",), ("layer", "laplacian"), ("logits", "transport")):
        reading = Reading(extractor(), reads)
        found = reading.observations(*reading(IMAGES))
        names = {name for name in observed.values if name.partition(".")[0] in reads}
        assert {*found.values} == names | {"logits"}
        for name in found.values:
            np.testing.assert_allclose(found[name], observed[name], rtol=1e-5, atol=1e-6)


def test_there_are_gradients() -> None:
    images = IMAGES.clone().requires_grad_()
    _, features = Reading(extractor(), ("laplacian", "transport"))(images)
    for column in (0, -1):
        [slope] = torch.autograd.grad(features[:, column].sum(), images, retain_graph=True)
        assert slope.abs().sum() > 0


def test_flags_are_scores_above_the_threshold() -> None:
    clean = extractor().observe([torch.rand(100, 3, 8, 8)])
    detector = OneClass().fit(clean, held_out=0)
    scores = detector.score(extractor().observe([IMAGES]))
    threshold = float(np.median(scores)) + 1e-6
    watched = Reading(extractor(), ("transport",)).watched_by(detector, threshold)
    assert watched.judge(IMAGES)[2].tolist() == (scores > threshold).tolist()
