"""Detected images are those that fool the network and not the detector."""

from dataclasses import replace

import pytest
import torch

from fxtransport.detection.adaptive import Evasion
from fxtransport.detection.adaptive.watched import detected_rows, evasion
from fxtransport.errors import UsageError
from tests.detection.adaptive.conftest import Scene


def test_judging_does_not_depend_on_the_batches(scene: Scene) -> None:
    images = scene.attacked.attacked
    whole, parts = scene.watched.judge(images), scene.watched.judge(images, batch_size=7)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)
    assert whole[2].dtype == torch.bool


def test_rows_are_of_successful_images_that_are_detected(scene: Scene) -> None:
    rows = detected_rows(scene.watched, scene.attacked)
    flags = scene.watched.judge(scene.attacked.attacked)[2]
    expected = [i for i in range(60) if scene.attacked.successful[i] and flags[i]]
    assert rows.tolist() == expected
    assert len(expected) > 10
    other = replace(scene.attacked, after=(scene.attacked.after + 1) % 10)
    with pytest.raises(UsageError, match=r"predicts other classes .* for 60 of 60 images"):
        detected_rows(scene.watched, other)


def test_new_images_are_judged(scene: Scene) -> None:
    rows = detected_rows(scene.watched, scene.attacked)[:3]
    images = scene.attacked.attacked[rows].clone()
    images[0] = float("nan")
    images[1] = scene.attacked.clean[rows[1]]
    found = evasion(scene.watched, scene.attacked, rows, images)
    assert torch.equal(found.images[0], scene.attacked.attacked[rows[0]])
    # nothing, the clean image, which fools nobody, and the one that is detected
    assert found.evaded.tolist() == [False, False, False]
    assert found.after[1] == 0
    assert torch.equal(found.after[::2], found.before[::2])
    assert found.rate == 0


def test_rates() -> None:
    found = Evasion(
        rows=torch.arange(4),
        images=torch.zeros(4, 1, 2, 2),
        evaded=torch.tensor([True, True, True, False]),
        before=torch.ones(4),
        after=torch.tensor([1.0, 2.0, 5.0, 1.0]),
    )
    assert found.rate == 0.75
    assert (found.rate_within(1), found.rate_within(2), found.rate_within(9)) == (0.25, 0.5, 0.75)
    none = Evasion(*(tensor[:0] for tensor in vars(found).values()))
    assert none.rate != none.rate
    assert none.rate_within(2) != none.rate_within(2)
