"""Classes are told without inputs, and each counts as it is rare."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from fxtransport.data import load
from fxtransport.data.labels import balanced_weights, labels_of
from fxtransport.data.streams import ShuffledStream, Subset, TensorSamples
from fxtransport.errors import UsageError


def test_weights_are_one_on_average() -> None:
    labels = torch.tensor([0] * 6 + [1] * 2 + [3] * 4)
    weights = balanced_weights(labels, 4)
    assert weights.tolist() == pytest.approx([0.5, 1.5, 0, 0.75])
    assert balanced_weights(labels[labels < 2], 2)[labels[labels < 2]].mean() == pytest.approx(1)


class Silent:
    def __len__(self) -> int:
        return 3

    def batch(self, indices: object) -> object:
        raise AssertionError("inputs are not needed")


def test_what_does_not_tell() -> None:
    assert labels_of(Silent()) is None
    assert labels_of(Subset(Silent(), (0,))) is None  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="samples that tell their classes"):
        ShuffledStream(Silent(), 2, 0, balanced=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{}, {"augmentation": {"hflip": 0.5}}, {"input_size": (3, 16, 16)}]
)
def test_sets_tell_what_their_batches_have(options: dict[str, object]) -> None:
    data = load("digits", seed=0, batch_size=64, train_samples=200, **options)  # type: ignore[arg-type]
    labels = labels_of(data.train.samples)  # type: ignore[attr-defined]
    drawn = torch.cat([targets for _, targets in data.train.epoch(0)])
    assert torch.equal(labels.sort().values, drawn.sort().values)


def test_folders_tell(tmp_path: Path) -> None:
    for split, counts in (("train", (5, 2)), ("val", (1, 1))):
        for name, count in zip("ab", counts, strict=True):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                shade = ("train", "val").index(split) * 100 + "ab".index(name) * 50 + i
                Image.new("RGB", (4, 4), (shade,) * 3).save(folder / f"{i}.png")
    data = load(
        str(tmp_path), seed=0, batch_size=2, input_size=(3, 4, 4), validation=0, sampler="balanced"
    )
    assert labels_of(data.train.samples).bincount().tolist() == [5, 2]  # type: ignore[attr-defined, union-attr]


def test_balanced_epochs() -> None:
    targets = torch.tensor([0] * 900 + [1] * 100)
    samples = TensorSamples(torch.arange(1000.0).unsqueeze(1), targets)
    stream = ShuffledStream(samples, 50, seed=1, balanced=True)
    drawn = [targets for _, targets in stream.epoch(0)]
    assert len(drawn) == len(stream) == 20
    assert 430 < torch.cat(drawn).sum() < 570
    again = [targets for _, targets in stream.epoch(0, start=7)]
    assert all(torch.equal(a, b) for a, b in zip(again, drawn[7:], strict=True))
    other = torch.cat([inputs for inputs, _ in stream.epoch(1)])
    assert not torch.equal(other, torch.cat([inputs for inputs, _ in stream.epoch(0)]))
    plain = ShuffledStream(samples, 50, seed=1)
    assert {**plain.description(), "balanced": True} == stream.description()


def test_what_is_no_sampler() -> None:
    with pytest.raises(UsageError, match="sampler is 'balanced' or None, not 'fair'"):
        load("digits", seed=0, batch_size=8, sampler="fair")
