"""From images to verdicts."""

import numpy as np
import pytest
import torch

from fxtransport.errors import UsageError
from tests.detecting.small import DETECTORS, detector, new_images


@pytest.mark.parametrize("name", DETECTORS)
def test_verdicts(name: str) -> None:
    images = new_images().images
    found = detector().score(images, name, fpr=0.1)
    own = detector().detectors[name]
    observed = detector().observe(images)
    assert np.array_equal(found.scores, own.score(observed))
    assert np.array_equal(found.p_values, own.p_value(observed))
    assert np.array_equal(found.suspicious, own.predict(observed, fpr=0.1))
    assert np.array_equal(found.suspicious, found.p_values <= 0.1)
    assert np.array_equal(found.predicted, observed["logits"].argmax(1))
    assert (found.detector, found.fpr, len(found)) == (name, 0.1, 60)


def test_images_do_not_depend_on_their_neighbors() -> None:
    images = new_images().images
    together = detector().score(images).scores
    alone = np.concatenate([detector().score(image[None]).scores for image in images[:10]])
    assert np.allclose(together[:10], alone)


def test_arrays_and_other_types_of_numbers() -> None:
    images = new_images().images[:5]
    expected = detector().score(images).scores
    for given in (images.numpy(), images.double(), images.requires_grad_(False)):
        assert np.array_equal(detector().score(given).scores, expected)


BAD = {
    "NaN": (torch.full((2, 1, 8, 8), torch.nan), "image 0 holds NaN or infinities"),
    "infinities": (torch.full((2, 1, 8, 8), torch.inf), "image 0 holds NaN or infinities"),
    "no pixels": (torch.full((2, 1, 8, 8), 7.0), "these are from 7 to 7; divide by 255"),
    "size": (torch.zeros(2, 1, 9, 8), r"images are \(1, 9, 8\); the model takes \(1, 8, 8\)"),
    "channels": (torch.zeros(2, 3, 8, 8), "the model takes"),
    "integers": (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "floating-point pixels from 0 to 1"),
    "one image": (torch.zeros(1, 8, 8), "N×C×H×W"),
    "no image": (torch.zeros(0, 1, 8, 8), "N×C×H×W"),
}


@pytest.mark.parametrize(("images", "words"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_judged(images: torch.Tensor, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        detector().score(images)


def test_no_such_detector() -> None:
    with pytest.raises(UsageError, match="no detector 'vim' was fitted: there are transport"):
        detector().score(new_images().images, "vim")
