"""Tar shards are read by timm, in an order that a resumed run repeats."""

import gc
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fxtransport.data import Splits, load
from fxtransport.errors import UsageError
from tests.data.making import IDENTITY, levels, write_shards

# where an epoch ends before a shard does, webdataset leaves the shard to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SHARDS = {"train": (6, 6, 6), "validation": (5,), "test": (4, 3)}


def shards(folder: Path, **options: Any) -> Splits:
    given: dict[str, Any] = {
        "seed": 0,
        "batch_size": 4,
        "input_size": (3, 8, 8),
        "num_classes": 3,
        "transform": IDENTITY,
    }
    return load("wds/tiny", root=folder, **(given | options))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    pytest.importorskip("webdataset")
    write_shards(tmp_path / "shards", SHARDS)
    yield tmp_path / "shards"
    gc.collect()


def test_evaluation_sees_every_sample_once(folder: Path) -> None:
    splits = shards(folder, num_workers=1)
    assert (splits.test.num_samples, len(splits.test)) == (7, 2)
    assert levels(splits.validation) == list(range(18, 23))
    assert levels(splits.test) == list(range(23, 30))
    assert [int(t) for _, targets in splits.test for t in targets] == [n % 3 for n in range(23, 30)]
    assert shards(folder, validation=0).validation is None
    assert splits.description.endswith("3 classes; splits not compared")


@pytest.mark.parametrize(("workers", "batches"), [(0, 5), (2, 6)])
def test_epochs_can_be_entered_anywhere(folder: Path, workers: int, batches: int) -> None:
    def stream() -> Any:
        augmentation = {"padding": 2, "re_prob": 0.5}
        return shards(
            folder, num_workers=workers, augmentation=augmentation, mixup={"mixup_alpha": 1.0}
        ).train

    whole = list(stream().epoch(1))
    assert len(stream()) == len(whole) == batches
    assert stream().num_samples == 4 * batches
    random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), torch.get_rng_state()
    rest = list(stream().epoch(1, start=2))
    assert (random.getstate(), len(rest)) == (before[0], batches - 2)
    assert torch.equal(torch.get_rng_state(), before[1])
    for found, expected in zip(rest, whole[2:], strict=True):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def test_epochs_and_seeds_have_orders_of_their_own(folder: Path) -> None:
    orders = [levels(shards(folder, seed=s).train.epoch(n)) for s in (0, 1) for n in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert all(set(order) <= set(range(18)) and len(set(order)) == 18 for order in orders)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": None}, "set num_classes"),
        ({"train_samples": 5}, "train_samples does not apply to shards"),
        ({"test_split": "held_out"}, "cannot open the split held_out .*not found"),
        ({"input_size": None}, "give input_size"),
    ],
)
def test_what_cannot_be_opened_says_why(
    folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        shards(folder, **options)
