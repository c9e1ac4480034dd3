"""Data as pixels, found again from what is written down."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from fxtransport.data import load
from fxtransport.detecting.source import DataSource, preprocessing_of
from fxtransport.errors import UsageError
from tests.detecting.small import subject


def test_what_is_written_down_finds_the_same_images() -> None:
    source = DataSource(**asdict(subject().source))
    again = source.pixels(subject().preprocessing)
    (images, labels), (same, same_labels) = (
        next(iter(each.test)) for each in (again, subject().data)
    )
    assert torch.equal(images, same)
    assert torch.equal(labels, same_labels)


def test_preprocessing_is_that_of_the_splits() -> None:
    transform = {"mean": (0.1,), "std": (0.2,), "crop_pct": 0.9, "interpolation": "bicubic"}
    splits = load("digits", seed=0, batch_size=9, transform={**transform, "crop_mode": "squash"})
    found = preprocessing_of(splits)
    assert (found.size, found.mean, found.std) == ((1, 8, 8), (0.1,), (0.2,))
    assert (found.interpolation, found.crop, found.crop_mode) == ("bicubic", 0.9, "squash")


def test_what_detectors_do_not_know_is_refused() -> None:
    with pytest.raises(UsageError, match="detectors are for images, not for moons"):
        preprocessing_of(load("moons", seed=0, batch_size=9))
    splits = load("digits", seed=0, batch_size=9, transform={"crop_border_pixels": 2})
    with pytest.raises(UsageError, match="crop_border_pixels"):
        preprocessing_of(splits)


def test_folders_are_named_so_that_they_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    found = DataSource.named("mine", root="mine")
    assert (found.name, found.root) == (str(tmp_path / "mine"), str(tmp_path / "mine"))
    assert DataSource.named("digits").name == "digits"


def test_an_option_that_does_not_exist() -> None:
    source = DataSource("digits", options={"tile": 3})
    with pytest.raises(UsageError, match="digits has no option 'tile'"):
        source.pixels(subject().preprocessing)
