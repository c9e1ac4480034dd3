"""The folder of attacked images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fxtransport.detecting.attack_text import parse_attack
from fxtransport.detecting.attacked_folder import summary, write_attacked, write_description
from fxtransport.detecting.attacking import attack_labeled, pixel_model
from fxtransport.detection.attacks import AttackedSet
from fxtransport.errors import UsageError
from tests.detecting.small import new_images, subject


@pytest.fixture(scope="module")
def made() -> AttackedSet:
    attack = parse_attack("fgm{epsilon=0.1}")
    found = subject()
    return attack_labeled(attack, found.program, found.preprocessing, new_images(), seed=0)


def test_tensors_and_pictures(made: AttackedSet, tmp_path: Path) -> None:
    names = tuple(f"digit {number}" for number in range(10))
    write_attacked(tmp_path, made, names, pictures=True)
    tensors = load_file(tmp_path / "fgm.safetensors")
    assert sorted(tensors) == ["after", "attacked", "before", "clean", "counted", "labels"]
    assert torch.equal(tensors["attacked"], made.attacked)
    assert torch.equal(tensors["counted"], made.successful)
    paths = sorted((tmp_path / "fgm").iterdir())
    assert len(paths) == len(made)
    assert paths[0].name == f"00-digit_{made.labels[0]}-as-digit_{made.after[0]}.png"
    for path, image in zip(paths, made.attacked, strict=True):
        with Image.open(path) as picture:
            levels = np.asarray(picture)
        assert np.array_equal(levels, (image[0].numpy() * 255).round().astype(np.uint8))


def test_what_is_left_as_png(made: AttackedSet) -> None:
    model = pixel_model(subject().program, subject().preprocessing)
    found = summary(made, model)
    with torch.no_grad():
        after = model((made.attacked * 255).round() / 255).argmax(1)
    assert found["successful_as_png"] == int(((after != made.labels) & made.successful).sum())
    assert found["success_rate"] == made.success_rate
    assert "successful_as_png" not in summary(made)
    assert json.loads(json.dumps(found)) == found


def test_a_folder_that_cannot_be_written(made: AttackedSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write into"):
        write_attacked(tmp_path / "file", made, tuple("0123456789"), pictures=False)
    with pytest.raises(UsageError, match="cannot write into"):
        write_description(tmp_path / "file", {})
