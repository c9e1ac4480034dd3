"""What a teacher says is computed once, found by the images, and never taken for another's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fxtransport.data import ShuffledStream
from fxtransport.data.streams import Batch
from fxtransport.errors import CheckpointError, UsageError
from fxtransport.training import Teacher
from fxtransport.training.teacher_cache import CachedTeacher, image_keys
from fxtransport.training.transfer import Guide
from tests.training.runs import samples, train_stream
from tests.training.test_transfer import pair_of

CPU = torch.device("cpu")


def filled(teacher: Teacher, folder: Path, stream: ShuffledStream | None = None) -> CachedTeacher:
    found = CachedTeacher(teacher, folder)
    found.fill(stream or train_stream(), CPU, lambda: None)
    return found


def test_it_says_what_the_teacher_says(tmp_path: Path) -> None:
    teacher = pair_of("auto").teacher
    cached = filled(teacher, tmp_path)
    for images, _ in train_stream().epoch(1):
        said, expected = cached(images), teacher(images)
        assert said.activations.keys() == expected.activations.keys()
        for name, value in expected.activations.items():
            torch.testing.assert_close(said.activations[name], value)
        torch.testing.assert_close(said.logits, expected.logits)


class Counted(Teacher):
    """Counts how often it is asked."""

    calls = 0

    def __call__(self, images: Any) -> Any:
        Counted.calls += 1
        return super().__call__(images)


def test_a_file_is_used_again_by_the_same_teacher_alone(tmp_path: Path) -> None:
    found = pair_of("penultimate").teacher
    layers = [*found.layers]
    filled(Counted(found.program, layers), tmp_path)
    first = Counted.calls
    assert first == 3
    filled(Counted(found.program, layers), tmp_path, replace(train_stream(), seed=9))
    assert Counted.calls == first
    filled(Counted(found.program, layers, logits=False), tmp_path)
    assert Counted.calls == first + 3
    with torch.no_grad():
        found.program.stem.weight.mul_(1.5)
    filled(Counted(found.program, layers), tmp_path)
    assert Counted.calls == first + 6
    assert len([*tmp_path.iterdir()]) == 3


def test_an_image_that_is_not_there_is_refused(tmp_path: Path) -> None:
    cached = filled(pair_of("penultimate").teacher, tmp_path)
    images = samples(22).inputs[:3].clone()
    cached(images)
    images[1, 0, 0, 0] += 1e-6
    with pytest.raises(UsageError, match="does not hold an image of this batch"):
        cached(images)


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    teacher = pair_of("penultimate").teacher
    filled(teacher, tmp_path)
    [path] = tmp_path.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-100] + bytes(100))
    filled(teacher, tmp_path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    path.symlink_to(path.rename(tmp_path / "elsewhere"))
    with pytest.raises(CheckpointError, match="a link is in the place of"):
        filled(teacher, tmp_path)


@dataclass(frozen=True)
class Noisy:
    """Draws noise for each image."""

    size: int

    def __len__(self) -> int:
        return self.size

    def batch(self, indices: Sequence[int]) -> Batch:
        images, targets = samples(self.size).batch(indices)
        return images + torch.randn_like(images), targets


@pytest.mark.parametrize("kind", ["augmented", "mixed", "a list"])
def test_what_changes_from_epoch_to_epoch_is_refused(kind: str, tmp_path: Path) -> None:
    stream: Any = {
        "augmented": ShuffledStream(Noisy(8), 4, seed=0),
        "mixed": replace(train_stream(), mix=lambda images, targets: (images, targets)),
        "a list": [(torch.zeros(2, 2, 4, 4), torch.zeros(2, dtype=torch.int64))],
    }[kind]
    guide = Guide(pair_of("penultimate").transfer("ot:1", cache=tmp_path), CPU, None)
    with pytest.raises(UsageError, match=r"teacher_cache (cannot be used|needs a stream)"):
        guide.prepare(stream, lambda: None)


def test_keys_are_of_values_and_shapes() -> None:
    images = torch.arange(32.0).view(2, 1, 4, 4)
    keys = image_keys(images)
    assert image_keys(images.clone()) == keys
    assert len({*keys, *image_keys(images.view(2, 1, 2, 8)), *image_keys(images.double())}) == 6
    assert image_keys(images.expand(-1, 3, -1, -1))[0] != keys[0]
    with pytest.raises(UsageError, match="inputs that are one tensor"):
        image_keys((images, images))
