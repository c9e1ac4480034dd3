"""Noisy copies: as far from their originals as attacked images, and clean."""

import numpy as np
import pytest

from fxtransport.detecting.attack_text import parse_attacks
from fxtransport.detecting.attacking import attack_labeled, observe
from fxtransport.detecting.fitting import FitSettings, fit_detectors
from fxtransport.detecting.noisy import observe_noisy
from fxtransport.detection.attacks import Attack, AttackedSet
from fxtransport.detection.hashes import image_hashes
from fxtransport.detection.noise import noisy_copies
from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed
from tests.detecting.small import detector, new_images, subject

FGM, BIM = parse_attacks(["fgm{epsilon=0.1}", "bim{epsilon=0.2 steps=3}"])


def made(attack: Attack) -> AttackedSet:
    return attack_labeled(attack, subject().program, subject().preprocessing, new_images(), seed=0)


def test_a_copy_has_as_much_noise_as_the_attack_changes_and_knows_its_original() -> None:
    sets = [made(FGM), made(BIM)]
    # one image that an attack leaves alone
    sets[0].attacked[3] = sets[0].clean[3]
    senses = detector().senses
    clean = observe(senses, new_images().images)
    found = observe_noisy(senses, sets, clean, seed=7)
    assert len(found) == 59 + 60
    assert found.sources == (*clean.hashes[:3], *clean.hashes[4:], *clean.hashes)
    assert not found.originals.any()
    change = (sets[1].attacked - sets[1].clean).flatten(1).norm(dim=1)
    expected = noisy_copies(sets[1].clean, change, derived_seed(7, 1))
    assert found.hashes[59:] == image_hashes(expected)
    assert np.array_equal(found["logits"][59:], observe(senses, expected)["logits"])


def test_nothing_that_was_changed() -> None:
    same = made(FGM)
    same.attacked.copy_(same.clean)
    senses = detector().senses
    with pytest.raises(UsageError, match="no attack changes an image"):
        observe_noisy(senses, [same], observe(senses, new_images().images), seed=0)


def test_detectors_learn_that_noise_is_clean() -> None:
    """A forest flags fewer noisy images, and is calibrated with originals alone."""
    settings = FitSettings(("transport",), parse_attacks(["fgm{epsilon=0.2}"]))
    plain = fit_detectors(subject(), settings)
    noisy = fit_detectors(subject(), FitSettings(("transport",), settings.attacks, noisy=True))
    about = noisy.fitted_on
    assert plain.fitted_on.noisy is None
    assert type(about).of(about.to_json()) == about
    assert (about.clean, about.calibration, about.noisy) == (460, 115, 460)
    assert noisy.fitted_hashes == plain.fitted_hashes
    assert noisy.calibration_hashes == plain.calibration_hashes
    calibration = noisy.detectors["transport"].calibration
    assert calibration is not None
    assert len(calibration.clean) == 115
    images = noisy_copies(new_images().images, 0.2 * 8, seed=1)
    flagged = [one.score(images, fpr=0.05).scores.mean() for one in (plain, noisy)]
    assert flagged[1] < flagged[0] - 0.1


def test_noise_needs_an_attack() -> None:
    with pytest.raises(UsageError, match=r"as much noise as an attack changes.*name an attack"):
        FitSettings(noisy=True)
