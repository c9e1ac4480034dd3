"""What shards hold is decoded as files are, and nothing of it is passed over."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fxtransport.data import Splits, load
from fxtransport.data import checked as checked_module
from fxtransport.data.checked import Checked
from fxtransport.errors import UsageError
from tests.data.making import IDENTITY, encoded, gray, levels, odd_images, whole, write_shard

pytest.importorskip("webdataset")
# where an epoch ends before a shard does, webdataset leaves the shard to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CUT = encoded(gray(9, size=64), "JPEG")[:500]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()


def files(count: int, first: int = 0) -> dict[str, bytes]:
    """Samples of two classes, each of a level of its own."""
    found = {}
    for i in range(first, first + count):
        found |= {f"{i:03}.png": encoded(gray(i)), f"{i:03}.cls": b"%d" % (i % 2)}
    return found


def sets(**changed: dict[str, bytes]) -> dict[str, dict[str, bytes]]:
    plain = {"train": files(8), "validation": files(4, 8), "test": files(4, 12)}
    return {split: held | changed.get(split, {}) for split, held in plain.items()}


def opened(root: Path, **options: Any) -> Splits:
    given: dict[str, Any] = {"batch_size": 2, "input_size": (3, 8, 8), "num_classes": 2}
    return load("wds/odd", seed=0, root=root, transform=IDENTITY, **(given | options))


def read_all(splits: Splits) -> list[int]:
    evaluated = [*levels(splits.validation), *levels(splits.test)]
    return sorted([*levels(splits.train.epoch(0)), *evaluated])


def test_images_become_the_pixels_that_those_of_folders_become(tmp_path: Path) -> None:
    held: dict[str, bytes] = {}
    for place in ("train/a", "train/b", "val/a"):
        (tmp_path / "folder" / place).mkdir(parents=True)
    for number, (ending, data) in enumerate(odd_images().items()):
        held |= {f"{number}.{ending}": data, f"{number}.cls": b"0"}
        (tmp_path / "folder" / "val" / "a" / f"{number}.{ending}").write_bytes(data)
    for level, name in enumerate("ab"):
        (tmp_path / "folder" / "train" / name / "0.png").write_bytes(encoded(gray(level)))
    write_shard(tmp_path / "shards", {**sets(), "validation": held})
    found = opened(tmp_path / "shards").validation
    plain = load(
        str(tmp_path / "folder"), seed=0, batch_size=2, input_size=(3, 8, 8), transform=IDENTITY
    ).validation
    assert found is not None
    assert plain is not None
    assert torch.equal(whole(found)[0], whole(plain)[0])
    # the ramp is not clipped to white, and red falls from left to right once it is turned
    images = whole(found)[0]
    assert 100 < images[0, 0].mean() < 150
    assert (images[4, 0].diff(dim=1) < 0).all()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("data", [CUT, b"", b"an error of a server"], ids=["cut", "empty", "text"])
def test_a_bad_image_is_an_error_or_is_skipped(tmp_path: Path, data: bytes, workers: int) -> None:
    bad = {split: {f"{number:03}.png": data} for split, number in (("train", 3), ("test", 13))}
    write_shard(tmp_path, sets(**bad))
    named = "train.tar: 003.png: cannot be read as an image: "
    with pytest.raises(UsageError) as caught:
        list(opened(tmp_path, num_workers=workers).train.epoch(0))
    assert str(caught.value).startswith(f"{tmp_path}/{named}")
    assert str(caught.value).endswith("or begin another run with on_bad_image='skip'")
    with pytest.raises(UsageError) as caught:
        opened(tmp_path, check_data=True)
    assert str(caught.value).startswith(f"{tmp_path}/{named}")
    assert str(caught.value).endswith("or leave it out with on_bad_image='skip'")
    splits = opened(tmp_path, on_bad_image="skip", validation=0, num_workers=workers)
    assert splits.notes == (
        f"train: 1 image that cannot be read left out: {tmp_path}/train.tar: 003.png",
        f"test: 1 image that cannot be read left out: {tmp_path}/test.tar: 013.png",
    )
    assert splits.train.num_samples == 8
    assert set(levels(splits.train.epoch(0))) == {0, 1, 2, 4, 5, 6, 7}
    assert splits.require_test().num_samples == 3
    assert levels(splits.test) == [12, 14, 15]


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        ({"001.cls": b"2"}, {}, r"train\.tar: 001\.png: its class is 2, and num_classes is 2"),
        ({"001.cls": b"-1"}, {}, "its class is -1"),
        ({"001.cls": b"cat"}, {}, r"train\.tar: 001: its class cannot be read: .*cat"),
        ({"020.png": b""}, {}, "020: it has no class: it lacks 'cls'"),
        ({"020.heic": b"", "020.cls": b"0"}, {}, "020: it has no image: it holds heic, cls;"),
        ({}, {"target_key": "label"}, "its class cannot be read: .*sidecar"),
        ({}, {"input_key": "jpg"}, "it has no image: it holds png, cls; input_key names"),
    ],
)
def test_what_timm_would_leave_out_is_named(
    tmp_path: Path, changed: dict[str, bytes], options: dict[str, Any], message: str
) -> None:
    write_shard(tmp_path, sets(train=changed))
    with pytest.raises(UsageError, match=message):
        list(opened(tmp_path, **options).train.epoch(0))


def test_images_are_decoded_once_to_check_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shard(tmp_path, sets())
    known = Checked()
    opened(tmp_path, check_data=True, checked=known)
    assert len(known.defects) == 16
    monkeypatch.setattr(checked_module, "decode", None)
    opened(tmp_path, check_data=True, checked=known)


def test_a_worker_without_a_shard_is_left_out(tmp_path: Path) -> None:
    write_shard(tmp_path, sets())
    train = opened(tmp_path, num_workers=3).train
    assert len(list(train.epoch(0))) == len(train) == 4


def test_shards_that_are_missing_or_cut_are_named(tmp_path: Path) -> None:
    write_shard(tmp_path, sets())
    shard = tmp_path / "test.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[:3000])
    with pytest.raises(UsageError, match=r"test\.tar: cannot be read as a shard: .*once more$"):
        list(opened(tmp_path).require_test())
    shard.unlink()
    with pytest.raises(UsageError, match=rf"there is no shard {shard}: copy what is missing"):
        opened(tmp_path).require_test().description()  # type: ignore[attr-defined]


def test_a_count_that_is_wrong_is_said(tmp_path: Path) -> None:
    write_shard(tmp_path, sets(), test=5)
    words = "the split test is said to have 5 samples, and its shards have 4: correct _info.json"
    with pytest.raises(UsageError, match=words):
        list(opened(tmp_path).require_test())
    with pytest.raises(UsageError, match=words):
        opened(tmp_path, check_data=True)
    with pytest.raises(UsageError, match="nothing says how many samples the split"):
        opened(tmp_path, test_split="test.tar")


def test_shards_are_known_again_by_their_names_and_sizes(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", sets())
    write_shard(tmp_path / "b", sets())
    train: Any = opened(tmp_path / "a").train
    moved: Any = opened(tmp_path / "b").train
    assert train.description() == moved.description()
    write_shard(tmp_path / "b", sets(train={"001.png": encoded(gray(100))}))
    other: Any = opened(tmp_path / "b").train
    assert train.description() != other.description()
    assert read_all(opened(tmp_path / "b")) == [0, *range(2, 16), 100]
