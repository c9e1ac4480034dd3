"""Detectors are fitted on one part and tested on the other."""

from dataclasses import replace

import numpy as np
import pytest

from fxtransport.detection.bench import CLEAN
from fxtransport.detection.observations import Observations
from fxtransport.errors import UsageError
from tests.detection.benching import Away, attack, bench, clean_images, observations


def test_what_is_fitted_is_of_the_first_part() -> None:
    clean = clean_images()
    given = bench(clean, held_out=0.0 + 0.25)
    Away.fits.clear()
    fitted = given.fit("away", "fgm", attack(clean))
    [(own, others)] = Away.fits
    numbers = clean["transport"][:, 0]
    allowed = numbers[given.parts.fit]
    assert set(own) < set(allowed.tolist())
    assert set(others) < set((allowed + np.float32(4)).tolist())
    # a quarter is held out, with what was made of it
    assert len(own) == 52
    assert fitted.detector.calibration is not None
    assert len(fitted.detector.calibration.clean) == 18
    # misclassified images do not count as attacked
    counted = given.counted(attack(clean), given.parts.fit)
    assert not (counted % 10 == 0).any()
    assert len(others) + len(fitted.detector.calibration.attacked) == len(counted)


def test_a_row_says_what_was_tested() -> None:
    clean = clean_images()
    given, moved = bench(clean), attack(clean)
    row = given.test_attack(given.fit("away", "fgm", moved), "seen", "fgm", moved)
    assert (row.protocol, row.detector, row.fitted_on, row.tested_on) == (
        "seen",
        "away",
        *["fgm"] * 2,
    )
    assert row.clean == 30
    assert row.attacked == row.counts["successful"] == row.counts["counted"]
    assert row.attacked + row.counts["misclassified before"] == 30
    assert row.success_rate == 1
    assert row.metrics["auroc"] > 0.99
    assert row.metrics["accuracy"] > 0.9
    assert 0 < row.threshold < 4


def test_all_images_count_where_that_is_asked_for() -> None:
    clean = clean_images()
    moved = attack(clean, count_all=True, fooled=np.arange(100) < 50)
    given = bench(clean)
    row = given.test_attack(given.fit("away", "fgm", moved), "seen", "fgm", moved)
    assert row.attacked == 30
    assert row.counts["successful"] < 20
    assert row.success_rate == pytest.approx(
        row.counts["successful"] / (30 - row.counts["misclassified before"])
    )


def test_noisy_copies_count_as_clean() -> None:
    clean = clean_images()
    numbers = clean["transport"][:, 0]
    noisy = observations(numbers + 0.01, [f"noisy {own}" for own in clean.hashes], clean.hashes)
    given = bench(clean, noisy=noisy)
    Away.fits.clear()
    fitted = given.fit("away", "fgm", attack(clean))
    assert len(Away.fits[0][0]) == 2 * 56
    assert given.test_attack(fitted, "seen", "fgm", attack(clean)).clean == 60
    for wrong in (noisy.take(np.arange(99, -1, -1)), Observations(noisy.values)):
        with pytest.raises(UsageError, match="noisy copies are in the order of the clean images"):
            bench(clean, noisy=wrong)


def test_more_clean_images_are_fitted_on_and_never_tested_on() -> None:
    clean, more = clean_images(), clean_images(50, seed=1)
    given = bench(clean, more=more, held_out=0.25)
    Away.fits.clear()
    fitted = given.fit("away", "fgm", attack(clean))
    [(own, _)] = Away.fits
    among = set(more["transport"][:, 0].tolist())
    assert fitted.detector.calibration is not None
    assert len(own) + len(fitted.detector.calibration.clean) == 70 + 50
    assert 0 < len(among & set(own)) < 50
    assert given.test_attack(fitted, "seen", "fgm", attack(clean)).clean == 30
    with pytest.raises(UsageError, match="images of other to test on"):
        given.scores(fitted, "other", more.take([3]))
    planted = bench(clean, more=clean.take(given.parts.test[:1]))
    with pytest.raises(UsageError, match=r"1 of 30 clean images to test on"):
        planted.fit("away", "fgm", attack(clean))


def test_a_row_without_attacked_images_has_no_figures() -> None:
    clean = clean_images()
    given = bench(clean)
    fitted = given.fit("away", "fgm", attack(clean))
    never = attack(clean, "cw", fooled=np.zeros(100, bool))
    row = given.test_attack(fitted, "unseen", "cw", never)
    assert row.metrics == {}
    assert (row.success_rate, row.attacked, row.counts["not fooled"] > 20) == (0, 0, True)
    with pytest.raises(UsageError, match="cw counts on none of 70 images to fit on"):
        given.fit("away", "cw", never)


def test_what_does_not_belong_is_refused() -> None:
    clean = clean_images()
    given = bench(clean)
    moved = attack(clean)
    others = replace(moved, observed=replace(moved.observed, sources=clean.hashes[::-1]))
    with pytest.raises(UsageError, match="fgm is not an attack on these clean images"):
        given.fit("away", "fgm", others)
    fitted = given.fit("away", "fgm", moved)
    with pytest.raises(UsageError, match="images of leak to test on"):
        given.scores(fitted, "leak", moved.observed.take(given.parts.fit[:3]))
    assert CLEAN in fitted.images
    # a test image among the other data to fit on
    planted = clean.take(given.parts.test[:1])
    with pytest.raises(UsageError, match=r"1 of 30 clean images to test on, .* images of svhn"):
        given.fit("away", "svhn", planted)
