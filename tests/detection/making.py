"""Observations whose numbers are made up, with a classifier that fits them."""

import numpy as np

from fxtransport.detection import Observations
from fxtransport.detection.head import Head

CLASSES, WIDTH = 5, 12


def made_head(seed: int = 0) -> Head:
    """A classifier of random weights."""
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    # the mean of noise by itself speaks for no class
    return Head(weight, -np.float32(0.8) * weight.sum(1))


def made_observations(count: int = 300, seed: int = 1, far: float = 1.0) -> Observations:
    """Positive features, their logits under :func:`made_head`, and two layers."""
    generator = np.random.default_rng(seed)
    head = made_head()
    aligned = np.maximum(head.weight[generator.integers(0, CLASSES, count)], 0)
    noise = np.abs(generator.normal(size=(count, WIDTH)) * far)
    features = (3 * aligned + noise).astype(np.float32)
    layers = [generator.normal(size=(count, width)) * far for width in (4, 7)]
    return Observations(
        {
            "logits": features @ head.weight.T + head.bias,
            "penultimate": features,
            "odin": features[:, :1],
            "stability": features[:, 1:2],
            **{f"layer.{k}": layer.astype(np.float32) for k, layer in enumerate(layers)},
        }
    )
