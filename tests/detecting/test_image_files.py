"""Images in files: what is read, and what gets one line and no verdict."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fxtransport.data.decode import ORIENTATION
from fxtransport.detecting.image_files import find_images, open_picture, read_images
from fxtransport.errors import UsageError
from tests.detecting.small import detector, new_images, write_pictures


def reason(path: Path) -> str:
    """Why a file with one image is refused; empty if it is not."""
    [found] = read_images(detector(), [path])
    assert (found.pixels is None) == bool(found.reason)
    return found.reason


def test_a_picture_becomes_what_the_model_was_fitted_on(tmp_path: Path) -> None:
    """Pixels in files have 255 levels, those of digits 16, so that they agree exactly."""
    images = new_images().images[:8]
    for path, image in zip(write_pictures(tmp_path, images), images, strict=True):
        [found] = read_images(detector(), [path])
        assert found.pixels is not None
        assert torch.equal(found.pixels, image)


def test_colors_and_sizes_are_prepared(tmp_path: Path) -> None:
    for number, mode in enumerate(["RGB", "RGBA", "P", "L", "1", "CMYK", "LA"]):
        path = tmp_path / f"{number}.tiff"
        Image.new(mode, (20 + number, 30)).save(path)
        [found] = read_images(detector(), [path])
        assert found.pixels is not None, mode
        assert found.pixels.shape == (1, 8, 8)
        assert 0 <= float(found.pixels.min()) <= float(found.pixels.max()) <= 1


def test_folders_are_read_in_order_with_those_inside(tmp_path: Path) -> None:
    images = new_images().images
    inner = write_pictures(tmp_path / "b" / "c", images[:2])
    first = write_pictures(tmp_path / "a", images[:2])
    (tmp_path / "notes.txt").write_text("no image")
    assert find_images([tmp_path]) == [*first, *inner]
    assert find_images([inner[1], tmp_path / "a"]) == [inner[1], *first]


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no image"):
        find_images([tmp_path])
    with pytest.raises(UsageError, match="there is no such file"):
        find_images([tmp_path / "none.png"])


def test_arrays(tmp_path: Path) -> None:
    images = new_images().images[:3]
    np.save(tmp_path / "three.npy", images.numpy())
    np.save(tmp_path / "one.npy", images[0].numpy().astype(np.float64))
    save_file({"attacked": images, "clean": images * 0}, tmp_path / "attacked.safetensors")
    found = list(read_images(detector(), find_images([tmp_path])))
    names = [each.name.removeprefix(f"{tmp_path}/") for each in found]
    assert names == [
        *(f"attacked.safetensors[{number}]" for number in range(3)),
        "one.npy[0]",
        *(f"three.npy[{number}]" for number in range(3)),
    ]
    expected = [*images, images[0], *images]
    for each, image in zip(found, expected, strict=True):
        assert each.pixels is not None
        assert torch.equal(each.pixels, image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.5, -0.5, 255.0])
def test_one_bad_image_of_an_array_is_refused_alone(tmp_path: Path, value: float) -> None:
    images = new_images().images[:3].numpy().copy()
    images[1, 0, 2, 2] = value
    np.save(tmp_path / "a.npy", images)
    good, bad, other = read_images(detector(), [tmp_path / "a.npy"])
    assert good.pixels is not None
    assert other.pixels is not None
    assert bad.pixels is None
    words = "pixels are from 0 to 1" if np.isfinite(value) else "holds NaN or infinities"
    assert words in bad.reason


def test_files_that_are_no_images(tmp_path: Path) -> None:
    [good] = write_pictures(tmp_path / "good", new_images().images[:1])
    files = {
        "empty.png": b"",
        "text.png": b"not an image",
        "cut.png": good.read_bytes()[:60],
        "cut.npy": b"\x93NUMPY\x01\x00",
        "text.npy": b"nothing",
        "text.safetensors": b"nothing",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert reason(path).startswith("cannot be read as an"), name
        assert "\n" not in reason(path)


def test_arrays_of_another_kind(tmp_path: Path) -> None:
    arrays = {
        "integers": np.zeros((2, 1, 8, 8), np.uint8),
        "size": np.zeros((2, 1, 9, 8), np.float32),
        "flat": np.zeros(64, np.float32),
        "objects": np.array([{}], dtype=object),
        "texts": np.array(["a"]),
        "no image": np.zeros((0, 1, 8, 8), np.float32),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        assert reason(tmp_path / f"{name}.npy"), name
    save_file({"weights": torch.zeros(2)}, tmp_path / "weights.safetensors")
    assert "pixels are called attacked or images" in reason(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("top", [2**16 - 1, 1.0])
def test_deep_pixels_are_scaled_by_their_range(tmp_path: Path, top: float) -> None:
    dtype = np.uint16 if top > 1 else np.float32
    path = tmp_path / "deep.tiff"
    Image.fromarray(np.full((8, 8), top / 2, dtype)).save(path)
    found = np.asarray(open_picture(path))
    assert found.dtype == np.uint8
    assert set(found.ravel()) <= {127, 128}


def test_pictures_are_turned_as_for_training(tmp_path: Path) -> None:
    path = tmp_path / "turned.png"
    image = Image.new("L", (8, 4))
    exif = image.getexif()
    exif[ORIENTATION] = 6
    image.save(path, exif=exif)
    assert open_picture(path).size == (4, 8)


def test_nan_in_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "nan.tiff"
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(path)
    assert reason(path)


def test_a_picture_that_is_too_large_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.png"
    Image.new("L", (100, 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7000)
    with pytest.raises(UsageError, match="exceeds limit of 7000 pixels"):
        open_picture(path)
