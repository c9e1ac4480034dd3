"""Sets of torchvision that keep images in files are read as folders are."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fxtransport.data import load
from fxtransport.errors import UsageError
from tests.data.making import IDENTITY, encoded, gray, levels, odd_images, whole

OPTIONS: dict[str, Any] = {"batch_size": 4, "input_size": (3, 8, 8), "transform": IDENTITY}


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """ImageNet of two classes, as torchvision lays it out."""
    root = tmp_path / "imagenet"
    classes = {"n01": ("ant", "emmet"), "n02": ("bee",)}
    root.mkdir()
    torch.save((classes, ["n01"]), root / "meta.bin")
    for first, split in enumerate(("train", "val")):
        for place, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for i in range(10):
                level = 20 * first + 10 * place + i
                path = root / split / name / f"{level:03}.png"
                path.write_bytes(encoded(gray(level)))
    return root


def opened(root: Path, **options: Any) -> Any:
    return load("torch/imagenet", seed=0, root=root, **OPTIONS, **options)


def test_images_become_the_pixels_that_those_of_folders_become(imagenet: Path) -> None:
    folder = imagenet / "val" / "n01"
    for path in folder.iterdir():
        path.unlink()
    for number, (ending, data) in enumerate(odd_images().items()):
        (folder / f"{number}.{ending}").write_bytes(data)
    splits = opened(imagenet)
    plain = load(str(imagenet), seed=0, test_split="val", **OPTIONS)
    for found, expected in zip(splits.test, plain.require_test(), strict=True):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    assert 100 < whole(splits.test)[0][0, 0].mean() < 150
    assert splits.class_names == ("ant, emmet", "bee")
    assert splits.description.endswith("; splits not compared")


def test_a_bad_image_is_an_error_or_is_skipped(imagenet: Path) -> None:
    bad = imagenet / "val" / "n02" / "033.png"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(UsageError, match=r"033\.png: cannot be read as an image: .*repair it"):
        list(opened(imagenet).test)
    with pytest.raises(UsageError, match=r"033\.png: cannot be read .*or leave it out with"):
        opened(imagenet, check_data=True)
    skipped = opened(imagenet, on_bad_image="skip")
    assert levels(skipped.test) == [level for level in range(20, 40) if level != 33]
    assert skipped.notes == (f"1 image that cannot be read left out: {bad}",)
    assert skipped.train.num_samples + skipped.validation.num_samples == 20


def test_images_are_known_by_their_names_wherever_they_are(imagenet: Path) -> None:
    before = opened(imagenet).train.description()
    moved = imagenet.rename(imagenet.with_name("moved"))
    assert opened(moved).train.description() == before
    (moved / "train" / "n01" / "100.png").write_bytes(encoded(gray(100)))
    assert opened(moved).train.description() != before
