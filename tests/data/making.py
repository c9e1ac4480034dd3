"""Tiny sets of images, in the formats of the real ones, and what tests read off them."""

import io
import json
import pickle
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, STL10

from fxtransport.data.streams import Batch

CIFAR_CLASSES = ["airplane", "automobile", "bird"]
IDENTITY = {"mean": (0.0,), "std": (1 / 255,)}
"""The transform that keeps pixels, so that an image tells its level."""


def gray(level: int, size: int = 8) -> Image.Image:
    """An image of one level, which identifies it."""
    return Image.fromarray(np.full((size, size, 3), level, dtype=np.uint8))


def write_folder(root: Path, images: Mapping[str, int], first_level: int = 0) -> None:
    """Images in a folder for each class, ``root/CLASS/000.png``."""
    level = first_level
    for name, count in images.items():
        (root / name).mkdir(parents=True)
        for _ in range(count):
            gray(level).save(root / name / f"{level:03}.png")
            level += 1


def write_cifar(root: Path, train: int, test: int, patch: pytest.MonkeyPatch) -> None:
    """CIFAR10 with few images of three classes; checksums are not verified."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)

    def write(name: str, count: int, first: int) -> None:
        levels = np.arange(first, first + count, dtype=np.uint8)
        data = np.repeat(levels[:, None], 3 * 32 * 32, axis=1)
        labels = [int(level) % 3 for level in levels]
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": labels}))

    write("data_batch_1", train, 0)
    write("test_batch", test, train)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": CIFAR_CLASSES}))
    patch.setattr(CIFAR10, "train_list", [["data_batch_1", None]])
    patch.setattr(CIFAR10, "test_list", [["test_batch", None]])
    patch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})


def write_stl(root: Path, train: int, test: int, patch: pytest.MonkeyPatch) -> None:
    """STL10 with few images of three classes; checksums are not verified."""
    folder = root / STL10.base_folder
    folder.mkdir(parents=True)
    for name, count in (("train", train), ("test", test)):
        levels = np.arange(count, dtype=np.uint8)
        np.repeat(levels, 3 * 96 * 96).tofile(folder / f"{name}_X.bin")
        (levels % 3 + 1).tofile(folder / f"{name}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(CIFAR_CLASSES))
    patch.setattr(STL10, "train_list", [["train_X.bin", None], ["train_y.bin", None]])
    patch.setattr(STL10, "test_list", [["test_X.bin", None], ["test_y.bin", None]])


def write_shards(root: Path, splits: Mapping[str, Sequence[int]]) -> None:
    """Tar shards as webdataset writes them, of three classes; lengths are those of each split."""
    root.mkdir()
    level, info = 0, {}
    for split, lengths in splits.items():
        names = [f"{split}-{i}.tar" for i in range(len(lengths))]
        for name, length in zip(names, lengths, strict=True):
            with tarfile.open(root / name, "w") as shard:
                for _ in range(length):
                    image = io.BytesIO()
                    gray(level).save(image, "PNG")
                    for end, data in (("png", image.getvalue()), ("cls", b"%d" % (level % 3))):
                        member = tarfile.TarInfo(f"{level:05}.{end}")
                        member.size = len(data)
                        shard.addfile(member, io.BytesIO(data))
                    level += 1
        info[split] = {
            "name": split,
            "num_samples": sum(lengths),
            "filenames": names,
            "shard_lengths": list(lengths),
        }
    (root / "_info.json").write_text(json.dumps({"splits": info}))


def write_shard(root: Path, splits: Mapping[str, Mapping[str, bytes]], **said: int) -> None:
    """One shard for each split, of files by name; ``said`` is how many samples it claims."""
    root.mkdir(exist_ok=True)
    info = {}
    for split, files in splits.items():
        with tarfile.open(root / f"{split}.tar", "w") as shard:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))
        count = said.get(split, len({name.partition(".")[0] for name in files}))
        info[split] = {
            "name": split,
            "num_samples": count,
            "filenames": [f"{split}.tar"],
            "shard_lengths": [count],
        }
    (root / "_info.json").write_text(json.dumps({"splits": info}))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image's file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def odd_images() -> dict[str, bytes]:
    """Files whose pixels PIL alone gets wrong, by the ending of their names."""
    ramp = np.arange(64, dtype=np.float32).reshape(8, 8) / 63
    turned = Image.Exif()
    turned[0x0112] = 6
    colors = np.stack([ramp, ramp.T, 1 - ramp], axis=-1)
    return {
        "png": encoded(Image.fromarray((ramp * 65535).astype("uint16"))),
        "jpeg": encoded(
            Image.fromarray((colors * 255).astype("uint8")), "JPEG", exif=turned, quality=95
        ),
        "tiff": encoded(Image.fromarray(ramp), "TIFF"),
        "tif": encoded(Image.fromarray((ramp * 60000).astype("int32")), "TIFF"),
        "webp": encoded(
            Image.fromarray((colors * 255).astype("uint8")), "WEBP", exif=turned, lossless=True
        ),
    }


def levels(batches: Iterable[Batch] | None) -> list[int]:
    """The level of each image; they have one each."""
    assert batches is not None
    return [round(float(image.max())) for images, _ in batches for image in images]


def classes(batches: Iterable[Batch] | None) -> list[int]:
    assert batches is not None
    return [int(target) for _, targets in batches for target in targets]


def whole(batches: Iterable[Batch]) -> Batch:
    """All batches in one."""
    inputs, targets = zip(*batches, strict=True)
    return torch.cat(inputs), torch.cat(targets)
