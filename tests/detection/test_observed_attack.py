"""What was observed is put together with what became of the images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fxtransport.detection.attacks import AttackedSet
from fxtransport.detection.observations import Observations
from fxtransport.detection.observed_attack import ObservedAttack
from fxtransport.errors import UsageError
from tests.detection.benching import attack, clean_images, observations


def attacked_set(count: int) -> AttackedSet:
    clean = torch.rand(count, 1, 2, 2)
    zeros = torch.zeros(count, dtype=torch.int64)
    after = zeros.clone()
    after[1] = 1
    return AttackedSet("fgm", {}, clean, clean / 2, zeros, zeros, after)


def test_sources_are_the_clean_images() -> None:
    clean = clean_images(4)
    moved = observations(np.ones(4), ["a", "b", "c", "d"])
    found = ObservedAttack.of(attacked_set(4), moved, clean)
    assert found.name == "fgm"
    assert found.observed.sources == clean.hashes
    assert found.observed.hashes == moved.hashes
    assert found.outcome.successful.tolist() == [False, True, False, False]


def test_numbers_must_agree() -> None:
    clean, moved = clean_images(4), observations(np.ones(4), ["a", "b", "c", "d"])
    for wrong in (
        (attacked_set(5), moved, clean),
        (attacked_set(4), moved.take([0, 1]), clean),
        (attacked_set(4), moved, clean.take([0])),
        (attacked_set(4), moved, Observations(clean.values)),
    ):
        with pytest.raises(UsageError, match=r"images were attacked, . were observed, and there"):
            ObservedAttack.of(*wrong)
    given = attack(clean)
    with pytest.raises(UsageError, match="4 images were attacked, and 2 were observed"):
        replace(given, observed=given.observed.take([0, 1]))
    with pytest.raises(UsageError, match="attacked images need the hashes of their originals"):
        replace(given, observed=Observations(given.observed.values))
