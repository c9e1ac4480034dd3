"""What pytorch-ood's detectors say with our interface is what they say without it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_ood import detector as theirs
from torch import nn

from fxtransport.detection import Observations
from fxtransport.detection.registry import detector_class, detector_names, make_detector
from fxtransport.errors import UsageError
from tests.detection.making import CLASSES, WIDTH, made_head, made_observations

HEAD = made_head()
WEIGHT, BIAS = torch.from_numpy(HEAD.weight), torch.from_numpy(HEAD.bias)


def linear() -> nn.Linear:
    layer = nn.Linear(WIDTH, CLASSES)
    with torch.no_grad():
        layer.weight.copy_(WEIGHT)
        layer.bias.copy_(BIAS)
    return layer


def flat() -> nn.Module:
    return nn.Sequential(nn.Flatten(), linear())


LOGITS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "energy": ({"t": 2.0}, lambda: theirs.EnergyBased(None, t=2.0)),
    "max-softmax": ({"t": 3.0}, lambda: theirs.MaxSoftmax(None, t=3.0)),
    "max-logit": ({}, lambda: theirs.MaxLogit(None)),
    "entropy": ({}, lambda: theirs.Entropy(None)),
    "gen": ({"gamma": 0.5}, lambda: theirs.GEN(None, gamma=0.5)),
    "kl-matching": ({}, lambda: theirs.KLMatching(None)),
}
FEATURES: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "relative-mahalanobis": ({}, lambda: theirs.RMD(None)),
    "gmm": ({"reg": 0.1}, lambda: theirs.GMM(None, reg=0.1)),
    "knn": ({"k": 7}, lambda: theirs.KNN(None, k=7)),
    "vim": ({"d": 4}, lambda: theirs.ViM(None, 4, WEIGHT, BIAS)),
    "dice": ({"p": 0.6}, lambda: theirs.DICE(None, WEIGHT, BIAS, 0.6)),
    "fdbd": ({}, lambda: theirs.fDBD(None, linear())),
    "nci": ({"alpha": 0.01}, lambda: theirs.NCI(None, linear(), alpha=0.01)),
    "pnml": ({}, lambda: theirs.PNML(None, linear())),
    "she": ({}, lambda: theirs.SHE(None, linear())),
    "nnguide": ({"k": 5}, lambda: theirs.NNGuide(None, linear(), k=5)),
    "lts": ({"p": 0.3}, lambda: theirs.LTS(None, linear(), p=0.3)),
}
MAPS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "react": ({"percentile": 0.8}, lambda: theirs.ReAct(None, flat(), percentile=0.8)),
    "vra": ({}, lambda: theirs.VRA(None, flat())),
    "ash": ({"percentile": 0.7}, lambda: theirs.ASH(None, flat(), percentile=0.7)),
    "scale": ({"percentile": 0.7}, lambda: theirs.SCALE(None, flat(), percentile=0.7)),
}


def assert_same(name: str, options: dict[str, Any], expected: torch.Tensor) -> None:
    detector = make_detector(name, HEAD, **options).fit(made_observations(), held_out=0)
    found = detector.score(made_observations(40, 2, 2.0))
    np.testing.assert_allclose(found, expected.detach().double().numpy(), rtol=2e-4, atol=1e-5)


def rows(observed: Observations, name: str) -> torch.Tensor:
    return torch.from_numpy(observed[name])


CLEAN, OTHERS = made_observations(), made_observations(40, 2, 2.0)
PREDICTED = torch.from_numpy(CLEAN.predicted)


@pytest.mark.parametrize("name", LOGITS)
def test_what_reads_logits(name: str) -> None:
    options, make = LOGITS[name]
    own = make()
    own.fit_logits(rows(CLEAN, "logits"), PREDICTED)
    assert_same(name, options, own.predict_logits(rows(OTHERS, "logits")))


@pytest.mark.parametrize("name", FEATURES)
def test_what_reads_features(name: str) -> None:
    options, make = FEATURES[name]
    own = make()
    own.fit_features(rows(CLEAN, "penultimate"), PREDICTED)
    assert_same(name, options, own.predict_features(rows(OTHERS, "penultimate")))


@pytest.mark.parametrize("name", MAPS)
def test_what_reads_maps_reads_features_as_maps_of_one_position(name: str) -> None:
    options, make = MAPS[name]
    own, maps = make(), rows(OTHERS, "penultimate")[:, :, None, None]
    own.fit_feature_maps(rows(CLEAN, "penultimate")[:, :, None, None], PREDICTED)
    assert_same(name, options, own.predict_feature_maps(maps))


def test_gradients_of_the_classifier() -> None:
    own = theirs.GradNorm(linear())
    assert_same("gradnorm", {}, own.predict(rows(OTHERS, "penultimate")))


def test_all_are_compared() -> None:
    compared = {*LOGITS, *FEATURES, *MAPS, "gradnorm", "mahalanobis", "odin"}
    assert compared >= {n for n in detector_names() if hasattr(detector_class(n), "other")}


def test_classes_that_were_never_predicted_are_no_gap() -> None:
    """pytorch-ood refuses class labels with gaps."""
    some = CLEAN.take(CLEAN.predicted != 2)
    for name in ("relative-mahalanobis", "gmm", "kl-matching", "mahalanobis"):
        assert np.isfinite(make_detector(name).fit(some).score(OTHERS)).all()
    with pytest.raises(UsageError, match="needs a clean image of each class; of class 2 there"):
        make_detector("she", HEAD).fit(some)


def test_too_few_images_are_one_line() -> None:
    few = CLEAN.take(range(4))
    for name, words in (("knn", "k=50 exceeds"), ("nnguide", "at least k=10")):
        with pytest.raises(
            UsageError, match=f"{name} cannot be fitted on these 4 images: .*{words}"
        ):
            make_detector(name, HEAD).fit(few, held_out=0)
    gmm = make_detector("gmm", reg=0.0)
    with pytest.raises(UsageError, match=r"gmm cannot be fitted on these 4 images: .*increase reg"):
        gmm.fit(few, held_out=0)
    with pytest.raises(UsageError, match="d is from 1 to 11 for 12 features, not 12"):
        make_detector("vim", HEAD, d=12).fit(CLEAN)


def test_classes_are_needed_where_nobody_gives_logits() -> None:
    bare = CLEAN["penultimate"]
    with pytest.raises(UsageError, match="needs the predicted classes"):
        make_detector("relative-mahalanobis").fit(bare)
    detector = make_detector("relative-mahalanobis").fit(bare, predicted=CLEAN.predicted)
    expected = make_detector("relative-mahalanobis").fit(CLEAN)
    assert np.array_equal(detector.score(OTHERS["penultimate"]), expected.score(OTHERS))


def test_large_sets_are_scored_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = make_detector("dice", HEAD).fit(CLEAN)
    expected = detector.score(OTHERS)
    monkeypatch.setattr("fxtransport.detection.ood._NUMBERS_AT_ONCE", 3 * CLASSES * WIDTH)
    sizes = [len(batch) for batch in detector._batches(OTHERS["penultimate"])]
    assert max(sizes) == 3
    np.testing.assert_allclose(detector.score(OTHERS), expected, rtol=1e-5)


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("fxtransport.detection.ood.import_module", missing)
    with pytest.raises(UsageError, match=r"pip install 'fxtransport\[detect\]'"):
        make_detector("energy").fit(CLEAN)
