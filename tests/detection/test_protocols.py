"""Protocols fit and test on what they say."""

import numpy as np
import pytest

from fxtransport.detection.protocols import (
    clean_only,
    out_of_distribution,
    seen,
    unseen,
    worst_case,
)
from fxtransport.errors import UsageError
from tests.detection.benching import Away, attack, bench, clean_images


def test_seen_attacks_are_fitted_on_each() -> None:
    clean = clean_images()
    attacks = {
        "up": attack(clean, "up"),
        "down": attack(clean, "down", -4),
        "never": attack(clean, "never", fooled=np.zeros(100, bool)),
    }
    rows = list(seen(bench(clean), attacks))
    assert [(row.fitted_on, row.tested_on) for row in rows] == [(name, name) for name in attacks]
    assert all(row.metrics["auroc"] > 0.99 for row in rows[:2])
    assert rows[2].metrics == {}
    assert (rows[2].success_rate, rows[2].protocol) == (0, "seen")


def test_unseen_attacks_are_not_fitted_on() -> None:
    clean = clean_images()
    attacks = {"fgm": attack(clean), "up": attack(clean, "up"), "down": attack(clean, "down", -4)}
    Away.fits.clear()
    rows = {row.tested_on: row for row in unseen(bench(clean), attacks)}
    assert list(rows) == ["up", "down"]
    assert len(Away.fits) == 1
    assert rows["up"].metrics["auroc"] > 0.99
    # it learned that attacks go up
    assert rows["down"].metrics["auroc"] < 0.01
    assert {row.fitted_on for row in rows.values()} == {"fgm"}
    with pytest.raises(UsageError, match="there is no attack 'bim' to fit on: there are fgm, up"):
        list(unseen(bench(clean), attacks, "bim"))


def test_clean_images_alone_are_enough_for_some() -> None:
    clean = clean_images()
    attacks = {"up": attack(clean, "up", 6), "down": attack(clean, "down", -6)}
    Away.fits.clear()
    given = bench(clean, held_out=0.4)
    rows = list(clean_only(given, attacks))
    [(_, others)] = Away.fits
    assert others == []
    assert all(row.metrics["auroc"] > 0.99 for row in rows)
    assert {row.fitted_on for row in rows} == {""}

    class Supervised(Away):
        name = "supervised"
        needs_attacked = True

    with pytest.raises(UsageError, match="supervised is fitted on clean and attacked images"):
        list(clean_only(bench(clean, detectors={"supervised": Supervised}), attacks))
    with pytest.raises(UsageError, match="there are no attacks to test on"):
        list(clean_only(given, {}))


def test_the_worst_case_is_the_least_suspicious_of_each_image() -> None:
    clean = clean_images()
    half = np.arange(100) % 2 == 0
    attacks = {
        "fgm": attack(clean, move=8),
        "near": attack(clean, "near", 3, fooled=half),
        "far": attack(clean, "far", 5),
    }
    given = bench(clean)
    [row] = worst_case(given, attacks)
    fitted = given.fit("away", "fgm", attacks["fgm"])
    rows = given.counted(attacks["far"], given.parts.test)
    moved = np.where(half[rows], 3, 5) + clean["transport"][rows, 0]
    assert isinstance(fitted.detector, Away)
    assert row.metrics["lowest"] == pytest.approx((moved - fitted.detector.mean).min(), abs=1e-5)
    assert row.attacked == len(rows)
    assert (row.protocol, row.tested_on, row.success_rate) == ("worst case", "3 attacks", 1)
    apart = [r.metrics["auroc"] for r in unseen(given, attacks)]
    assert row.metrics["auroc"] <= max(apart)
    [alone] = worst_case(bench(clean, held_out=0.4), attacks, fitted_on=None)
    assert alone.fitted_on == ""


def test_the_worst_case_of_attacks_without_success_has_no_figures() -> None:
    clean = clean_images()
    part = bench(clean).parts.test
    fooled = np.ones(100, bool)
    fooled[part] = False
    [row] = worst_case(bench(clean), {"fgm": attack(clean, fooled=fooled)})
    assert (row.metrics, row.success_rate, row.attacked) == ({}, 0, 0)


def test_other_data_are_disjoint_and_of_two_kinds() -> None:
    clean, known = clean_images(), clean_images(40, seed=1)
    shifted = attack(known, "known", 5).observed
    near, far = (attack(clean_images(30, seed=2), "n", 3), attack(clean_images(20, seed=3), "f", 9))
    others = {"near": ("near", near.observed), "far": ("far", far.observed)}
    rows = list(out_of_distribution(bench(clean), others, ("known", shifted)))  # type: ignore[arg-type]
    assert [(row.protocol, row.tested_on, row.attacked) for row in rows] == [
        ("near", "near", 30),
        ("far", "far", 20),
    ]
    assert rows[0].metrics["auroc"] < rows[1].metrics["auroc"] == 1
    assert np.isnan(rows[0].success_rate)
    # fitted on an attack, and on nothing
    by_attack = list(out_of_distribution(bench(clean), others, ("fgm", attack(clean))))  # type: ignore[arg-type]
    assert by_attack[1].metrics["auroc"] == 1
    alone = list(out_of_distribution(bench(clean, held_out=0.4), others))  # type: ignore[arg-type]
    assert {row.fitted_on for row in alone} == {""}
    with pytest.raises(UsageError, match="images of known to test on"):
        again = {"known": ("near", shifted)}
        list(out_of_distribution(bench(clean), again, ("other", shifted)))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="100 of 100 images of same to test on"):
        list(out_of_distribution(bench(clean), {"same": ("near", clean)}))
