"""Every detector by its name: what all of them do."""

import numpy as np
import pytest

from fxtransport.detection.detector import Detector
from fxtransport.detection.registry import (
    detector_class,
    detector_names,
    make_detector,
    open_detector,
)
from fxtransport.detection.saved import SavedDetector, write
from fxtransport.errors import SavedDetectorError, UsageError
from tests.detection.making import made_head, made_observations

OOD = [
    name
    for name in detector_names()
    if hasattr(detector_class(name), "other")
    or name in ("layer-inconsistency", "mahalanobis", "odin")
]
"""Those that need no forest, which are tested elsewhere."""

ANY_LENGTH = ("bank", "distributions", "mu")
"""What may have any number of rows: clean images, or the classes that were predicted of them."""


def fitted(name: str) -> Detector:
    return make_detector(name, made_head()).fit(made_observations(), made_observations(20, 2, 3.0))


@pytest.mark.parametrize("name", detector_names())
def test_names_are_those_of_the_classes(name: str) -> None:
    assert detector_class(name).name == name
    assert (detector_class(name).__doc__ or "").strip()


@pytest.mark.parametrize("name", OOD)
def test_an_image_is_judged_by_itself(name: str) -> None:
    """Its score does not depend on the images beside it."""
    detector, images = fitted(name), made_observations(9, 3, 2.0)
    scores = detector.score(images)
    assert scores.shape == (9,)
    assert len(set(scores.tolist())) > 1
    alone = [detector.score(images.take([k]))[0] for k in range(9)]
    np.testing.assert_allclose(alone, scores, rtol=1e-4, atol=1e-5)
    assert detector.score(images.take([])).shape == (0,)


@pytest.mark.parametrize("name", OOD)
def test_saved_detectors_give_the_same_scores(name: str, tmp_path) -> None:
    detector, images = fitted(name), made_observations(9, 3, 2.0)
    detector.save(tmp_path / "det")
    loaded = detector_class(name).load(tmp_path / "det")
    assert np.array_equal(loaded.score(images), detector.score(images))
    assert np.array_equal(loaded.p_value(images), detector.p_value(images))
    assert type(open_detector(tmp_path / "det")) is type(detector)


def test_a_detector_that_this_version_lacks_is_refused(tmp_path) -> None:
    write(tmp_path, SavedDetector("other", {}, {}))
    with pytest.raises(SavedDetectorError, match="detector 'other', which this version"):
        open_detector(tmp_path)
    with pytest.raises(SavedDetectorError, match="does not hold a detector"):
        open_detector(tmp_path / "nothing")


@pytest.mark.parametrize("name", OOD)
def test_states_are_checked(name: str) -> None:
    """Each array and each setting, left out, of another shape or type, or not a number."""
    kind = detector_class(name)
    arrays, settings = fitted(name).state()
    kind.from_state(dict(arrays), dict(settings))
    for key, array in arrays.items():
        wrong = [array[None], array.astype(np.int32), np.full_like(array, np.nan)]
        if key.rpartition(".")[2] not in ANY_LENGTH:
            wrong.append(array[:-1])
        for other in wrong:
            with pytest.raises(UsageError):
                kind.from_state({**arrays, key: other}, dict(settings))
        with pytest.raises(UsageError, match=f"{key!r} is missing"):
            kind.from_state({k: v for k, v in arrays.items() if k != key}, dict(settings))
    for key in settings:
        for value in ("text", None, float("nan"), [1]):
            with pytest.raises(UsageError):
                kind.from_state(dict(arrays), {**settings, key: value})
    with pytest.raises(UsageError, match="is not of such a detector"):
        kind.from_state(dict(arrays), {**settings, "more": 1})


@pytest.mark.parametrize("name", OOD)
def test_other_observations_are_refused(name: str) -> None:
    detector, images = fitted(name), made_observations(3)
    for read in detector.reads:
        names = [key for key in images.values if key.startswith(read)]
        for key in names:
            wider = np.concatenate([images[key], images[key]], axis=1)
            if key != "logits":
                with pytest.raises(UsageError):
                    detector.score(type(images)({**images.values, key: wider}))
        with pytest.raises(UsageError, match="hold no"):
            detector.score(type(images)({"other": images["logits"]}))


def test_there_is_no_other_detector() -> None:
    with pytest.raises(UsageError, match="no detector 'mahalanobi'; did you mean mahalanobis"):
        detector_class("mahalanobi")
    with pytest.raises(UsageError, match="no detector 'x'; there are "):
        detector_class("x")
    with pytest.raises(UsageError, match="react needs the classifier's weights"):
        make_detector("react")
    with pytest.raises(UsageError, match="knn has no option t; it has k"):
        make_detector("knn", t=1.0)
    with pytest.raises(UsageError, match="mahalanobis has no such option"):
        make_detector("mahalanobis", t=1.0)
    with pytest.raises(UsageError, match="'k' is 0, not an integer"):
        make_detector("knn", k=0)


@pytest.mark.parametrize("name", [n for n in OOD if n not in ("energy", "odin")])
def test_what_was_not_fitted_does_not_score(name: str) -> None:
    detector = make_detector(name, made_head())
    with pytest.raises(UsageError, match=f"{name} was not fitted"):
        detector.score(made_observations(3))
    with pytest.raises(UsageError, match=f"{name} was not fitted"):
        detector.state()
