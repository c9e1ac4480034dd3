"""Distances in several layers: by hand, combined, and with noise along the gradient."""

from typing import Any

import numpy as np
import pytest
import torch
from pytorch_ood import detector as theirs
from torch import Tensor

from fxtransport import image_extractor
from fxtransport.detection import Observations
from fxtransport.detection.extractor import Extractor
from fxtransport.detection.mahalanobis import MAGNITUDES, Mahalanobis
from fxtransport.errors import UsageError
from tests.detection.making import made_observations
from tests.networks import Net

CLEAN, ATTACKED = made_observations(), made_observations(100, 2, 2.0)


def kept_rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that the combination is fitted on, and those of the Gaussians."""
    rows = np.random.default_rng(0).permutation(count)
    return rows[: round(0.2 * count)], rows[round(0.2 * count) :]


def by_hand(layer: np.ndarray, classes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Half the squared distances, by the sum of outer products, in float64."""
    means = np.stack([layer[classes == c].mean(0) for c in np.unique(classes)]).astype(float)
    centered = layer - means[np.searchsorted(np.unique(classes), classes)]
    precision = np.linalg.inv(centered.T @ centered + 1e-6 * np.eye(layer.shape[1]))
    differences = others[:, None] - means
    return 0.5 * np.einsum("nkf,fg,nkg->nk", differences, precision, differences).min(1)


def test_distances_are_those_by_hand_and_the_largest_counts() -> None:
    detector = Mahalanobis().fit(CLEAN, held_out=0)
    held, kept = kept_rows(len(CLEAN))
    columns = []
    for k in (0, 1):
        layer, classes = CLEAN[f"layer.{k}"], CLEAN.predicted
        others = np.concatenate([layer[held], ATTACKED[f"layer.{k}"]])
        columns.append(by_hand(layer[kept], classes[kept], others))
    expected = np.stack(columns, axis=1)
    found = detector.distances(ATTACKED)
    assert found.shape == (100, 2)
    np.testing.assert_allclose(found, expected[len(held) :], rtol=1e-3)
    center, scale = expected[: len(held)].mean(0), expected[: len(held)].std(0)
    largest = ((expected[len(held) :] - center) / scale).max(1)
    np.testing.assert_allclose(detector.score(ATTACKED), largest, rtol=1e-3, atol=1e-3)


def test_the_logistic_combination_weighs_what_tells_attacks() -> None:
    """Attacks that show in one layer alone give it the weight."""
    shown = Observations({**ATTACKED.values, "layer.0": made_observations(100, 3)["layer.0"]})
    detector = Mahalanobis("logistic").fit(CLEAN, shown)
    arrays, settings = detector.state()
    assert abs(arrays["weights"][1]) > 3 * abs(arrays["weights"][0])
    assert settings["combine"] == "logistic"
    rows = (detector.distances(shown) - arrays["center"]) / arrays["scale"]
    expected = rows @ arrays["weights"] + settings["bias"]
    np.testing.assert_allclose(detector.score(shown), expected)
    assert detector.score(shown).mean() > detector.score(CLEAN).mean() + 1
    restored = Mahalanobis.from_state(arrays, settings)
    assert np.array_equal(restored.score(shown), detector.score(shown))


def test_what_it_cannot_be_fitted_on_is_refused() -> None:
    with pytest.raises(UsageError, match="combine is one of max, logistic, not 'mean'"):
        Mahalanobis("mean")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'logistic' needs attacked images"):
        Mahalanobis("logistic").fit(CLEAN)
    with pytest.raises(UsageError, match="2 clean images are too few"):
        Mahalanobis().fit(CLEAN.take([0, 1]), held_out=0)
    without = Observations({"layer.0": CLEAN["layer.0"]})
    with pytest.raises(UsageError, match="needs the predicted classes"):
        Mahalanobis().fit(without)
    wide = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    few = Observations({"layer.0": wide, "logits": wide[:, :5]})
    with pytest.raises(UsageError, match=r"64 columns cannot be inverted with .* images"):
        Mahalanobis().fit(few)
    generator = np.random.default_rng(0)
    doubled = generator.normal(size=(400, 4)).repeat(2, axis=1)
    doubled = (doubled + 1e-4 * generator.normal(size=doubled.shape)).astype(np.float32)
    same = Observations({"layer.0": doubled, "logits": doubled[:, :5]})
    with pytest.raises(UsageError, match=r"some columns follow from others.*such as knn"):
        Mahalanobis().fit(same)
    # to the last bit, where torch itself finds no inverse
    twice = generator.normal(size=(400, 2)).repeat(2, axis=1).astype(np.float32) * 1e4
    few = twice[:3].repeat(4, axis=1)
    for rows, words in ((twice, "some columns follow from others"), (few, "more images than")):
        same = Observations({"layer.0": rows, "logits": rows[:, :2]})
        with pytest.raises(UsageError, match=rf"cannot be inverted with .*{words}.*one-class"):
            Mahalanobis().fit(same, held_out=0)
    detector = Mahalanobis().fit(CLEAN)
    for values, words in (
        ({"logits": CLEAN["logits"]}, "hold no layers"),
        ({"layer.1": CLEAN["layer.1"]}, "hold no layers"),
        ({"layer.0": CLEAN["layer.0"]}, "have 4 columns; mahalanobis was fitted on 4, 7"),
    ):
        with pytest.raises(UsageError, match=words):
            detector.score(Observations(values))


def images_of(count: int) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(count))


@pytest.fixture
def extract() -> Extractor:
    return image_extractor(
        Net(2), torch.zeros(2, 3, 8, 8), mean=(0.5,) * 3, std=(0.25,) * 3, differentiable=True
    )


def test_noise_is_that_of_pytorch_ood(extract: Extractor) -> None:
    clean, images = extract.observe([images_of(200)]), images_of(6)
    detector = Mahalanobis().fit(clean)
    found = detector.observe_with_noise(extract, [images[:4], images[4:]], 0.01)
    plain = extract.observe([images])
    assert found.hashes == plain.hashes
    assert np.array_equal(found["penultimate"], plain["penultimate"])
    for k, made in enumerate(detector.layers):
        own: Any = theirs.MahalanobisODIN(lambda x, k=k: extract(x)[f"layer.{k}"], eps=0.01)
        own._base.mu, own._base.precision = made.mu, made.precision
        expected = own.predict(images).numpy()
        np.testing.assert_allclose(detector.distances(found)[:, k], expected, rtol=1e-3)
    assert not np.allclose(found["layer.0"], plain["layer.0"])
    assert detector.distances(found).mean() < detector.distances(plain).mean()


def test_no_noise_changes_nothing(extract: Extractor) -> None:
    assert MAGNITUDES[0] == 0
    detector = Mahalanobis().fit(extract.observe([images_of(50)]))
    found = detector.observe_with_noise(extract, [images_of(3)], 0.0)
    for name, value in extract.observe([images_of(3)]).values.items():
        assert np.array_equal(found[name], value)


def test_noise_needs_gradients_and_a_magnitude(extract: Extractor) -> None:
    detector = Mahalanobis()
    with pytest.raises(UsageError, match="was not fitted"):
        detector.observe_with_noise(extract, [images_of(2)], 0.01)
    detector.fit(extract.observe([images_of(50)]))
    for magnitude in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="magnitude is 0 or more"):
            detector.observe_with_noise(extract, [images_of(2)], magnitude)
    with pytest.raises(UsageError, match="differentiable=True"):
        detector.observe_with_noise(Extractor(extract.program), [images_of(2)], 0.01)
