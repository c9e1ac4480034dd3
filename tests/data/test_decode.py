"""Images of every depth and format become the same pixels, right side up."""

import io

import numpy as np
import pytest
from PIL import Image

from fxtransport.data.decode import BAD_IMAGE, decode, extensions, seems_whole, to_bytes

LEVELS = np.array([[3000, 60000, 3000], [0, 65535, 257]])
BYTES = [[12, 233, 12], [0, 255, 1]]


def saved(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def levels(file: io.BytesIO) -> list[list[int]]:
    found: list[list[int]] = np.asarray(decode(file).convert("L")).tolist()
    return found


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("PNG", LEVELS.astype("uint16")),
        ("TIFF", LEVELS.astype("uint16")),
        ("PPM", LEVELS.astype("uint16")),
        ("TIFF", LEVELS.astype("int32")),
        ("TIFF", (LEVELS / 65535).astype("float32")),
        ("TIFF", (LEVELS / 257).astype("float32")),
        ("TIFF", LEVELS.astype("float32")),
    ],
    ids=["png 16", "tiff 16", "pgm 16", "tiff 32", "to 1", "to 255", "to 65535"],
)
def test_more_than_eight_bits_are_scaled_by_their_range(
    kind: str, values: "np.ndarray[tuple[int, int], np.dtype[np.generic]]"
) -> None:
    assert levels(saved(Image.fromarray(values), kind)) == BYTES


def test_a_dark_image_of_sixteen_bits_stays_dark() -> None:
    dark = Image.fromarray(np.full((2, 2), 200, "uint16"))
    assert levels(saved(dark, "PNG")) == [[1, 1], [1, 1]]


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, 1e6])
def test_values_without_a_range_are_refused(value: float) -> None:
    image = Image.fromarray(np.array([[0.5, value]], "float32"))
    with pytest.raises(ValueError, match=r"not finite|no range is known"):
        decode(saved(image, "TIFF"))
    assert to_bytes(np.array([[0, 2**31 - 1]])).tolist() == [[0, 255]]
    with pytest.raises(ValueError, match="no range is known"):
        to_bytes(np.array([[2**40]]))


CORNER = np.array([[250, 0, 0], [0, 0, 0]], "uint8")
"""Its bright corner says how it was turned."""
TURNED = {
    1: [[250, 0, 0], [0, 0, 0]],
    2: [[0, 0, 250], [0, 0, 0]],
    3: [[0, 0, 0], [0, 0, 250]],
    4: [[0, 0, 0], [250, 0, 0]],
    5: [[250, 0], [0, 0], [0, 0]],
    6: [[0, 250], [0, 0], [0, 0]],
    7: [[0, 0], [0, 0], [0, 250]],
    8: [[0, 0], [0, 0], [250, 0]],
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(
    ("kind", "depth"),
    [("PNG", "uint8"), ("WEBP", "uint8"), ("TIFF", "uint8"), ("PNG", "uint16"), ("TIFF", "uint16")],
)
def test_images_are_turned_as_they_say(orientation: int, kind: str, depth: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = CORNER.astype(depth) * (257 if depth == "uint16" else 1)
    options = {"lossless": True} if kind == "WEBP" else {}
    assert levels(saved(Image.fromarray(values), kind, exif=exif, **options)) == TURNED[orientation]


def test_a_photograph_of_a_camera_on_its_side_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph = Image.fromarray(np.kron(CORNER, np.ones((16, 16), "uint8")))
    file = saved(photograph, "JPEG", exif=exif, quality=95)
    image = decode(file)
    assert image.size == (32, 48)
    assert np.asarray(image)[:8, 24:].mean() > 200
    assert np.asarray(image)[:, :8].mean() < 50


def test_exif_that_cannot_be_read_leaves_the_image_as_it_is() -> None:
    file = saved(Image.fromarray(CORNER), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x99broken")
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        assert levels(file) == CORNER.tolist()


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palettes_with_transparency_are_read_without_a_warning(kind: str) -> None:
    transparency = b"\0\x80" if kind == "PNG" else 0
    image = Image.fromarray(np.dstack([CORNER] * 3)).convert("P")
    assert decode(saved(image, kind, transparency=transparency)).mode == "RGBA"


def test_what_is_no_image_raises_what_is_listed() -> None:
    whole = saved(Image.effect_noise((64, 64), 50), "PNG").getvalue()
    jpeg = saved(Image.effect_noise((64, 64), 50), "JPEG").getvalue()
    for data in (b"", b"no image", whole[:200], jpeg[:200], whole[:30] + bytes(300)):
        with pytest.raises(BAD_IMAGE):
            decode(io.BytesIO(data))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_file_that_was_cut_does_not_seem_whole(kind: str) -> None:
    data = saved(Image.effect_noise((32, 32), 50), kind).getvalue()
    assert seems_whole(data, kind)
    for cut in (1, 20, len(data) // 2):
        assert (kind == "PNG" and cut == 1) or not seems_whole(data[:-cut], kind)
    assert not seems_whole(data, "BMP")


def test_the_usual_formats_are_read() -> None:
    assert {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"} <= {*extensions()}
    assert not {".pdf", ".txt", ".svg", ".mp4", ".npy"} & {*extensions()}
