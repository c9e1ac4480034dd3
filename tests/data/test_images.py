"""Augmented images come in an order that a resumed run repeats."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fxtransport.data import load


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mixup", [None, {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}])
def test_augmented_epochs_can_be_entered_anywhere(
    cifar: Path, workers: int, mixup: dict[str, float] | None
) -> None:
    def stream(num_workers: int) -> Any:
        return load(
            "torch/cifar10",
            seed=1,
            batch_size=8,
            root=cifar,
            num_workers=num_workers,
            drop_last=True,
            augmentation={"padding": 4, "hflip": 0.5, "color_jitter": 0.4, "re_prob": 0.5},
            mixup=mixup,
        ).train

    whole = list(stream(0).epoch(1))
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    rest = list(stream(workers).epoch(1, start=4))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(rest) == len(whole) - 4 > 0
    for found, expected in zip(rest, whole[4:], strict=True):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    assert rest[0][1].dtype == (torch.int64 if mixup is None else torch.float32)
