"""An image file as pixels of 8 bits: right side up, and by the range of what it holds."""

import struct
import zlib
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

BAD_IMAGE = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What PIL raises for a file that it cannot decode."""

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that are read, as PIL names them; of several pages or frames, the first."""

ORIENTATION = 0x0112
"""The tag of EXIF that says how an image is to be turned."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BYTE, WORD, LONG = 255, 2**16 - 1, 2**31 - 1


def decode(file: IO[bytes]) -> Image.Image:
    """The first image of a file, turned as its EXIF orientation says.

    An image of one channel with more than 8 bits is scaled to 8 by the range of its format, see
    :func:`to_bytes`.

    Raises:
        One of :data:`BAD_IMAGE`: the file cannot be decoded, or its values have no known range.
    """
    image: Image.Image = Image.open(file)
    image.load()
    turn = TURNS.get(_orientation(image))
    pixels = _eight_bits(image)
    return pixels if turn is None else pixels.transpose(turn)


def to_bytes(values: NDArray[np.generic], highest: int | None = None) -> NDArray[np.uint8]:
    """Values of pixels, scaled so that the highest that their format holds is 255.

    Args:
        values: H×W.
        highest: The highest value that the format holds. None, where the file does not tell:
            numbers that are not whole are from 0 to 1 if none is larger; else values are from
            0 to the smallest of 255, 65535 and 2³¹ - 1 that none exceeds.

    Raises:
        ValueError: a value is negative or not finite, or too large.

    >>> to_bytes(np.array([[3000, 60000]]))
    array([[ 12, 233]], dtype=uint8)
    >>> to_bytes(np.array([[0.0, 0.5, 1.0]]))
    array([[  0, 128, 255]], dtype=uint8)
    """
    exact = values.astype(np.float64)
    if not np.isfinite(exact).all():
        raise ValueError("it has pixels that are not finite numbers")
    low, high = float(exact.min()), float(exact.max())
    if highest is None:
        whole = np.issubdtype(values.dtype, np.integer)
        scales = (BYTE, WORD, LONG) if whole else (1, BYTE, WORD)
        highest = next((scale for scale in scales if high <= scale), None)
    if low < 0 or highest is None:
        raise ValueError(
            f"its pixels are from {low:g} to {high:g}, of which no range is known: save them as "
            "whole numbers of 8 or 16 bits, or as numbers from 0 to 1"
        )
    return (exact * (BYTE / highest)).round().astype(np.uint8)


def extensions() -> tuple[str, ...]:
    """The endings of the names of files that are read, in lower case, such as ``.png``."""
    # PIL lists them after it has loaded its plug-ins
    known = Image.registered_extensions()
    read = {kind for kind in FORMATS if kind in Image.OPEN}
    return tuple(sorted(end for end, kind in known.items() if kind in read))


def seems_whole(data: bytes, kind: str | None) -> bool:
    """Whether a file ends as its format says. Where that is not known, it does not.

    Args:
        data: The file.
        kind: Its format, as PIL names it.
    """
    if kind == "PNG":
        return b"IEND" in data[-64:]
    if kind == "JPEG":
        return data.rstrip(b"\0")[-2:] == b"\xff\xd9"
    if kind == "WEBP":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return False


def _orientation(image: Image.Image) -> int:
    """The orientation of EXIF; 1, which is upright, where there is none that can be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except BAD_IMAGE:
        # pixels are whole, and every program that shows them takes them as they are
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """An image in a mode that PIL converts to RGB without a loss or a warning."""
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    if not image.mode.startswith(("I", "F")):
        return image
    # PNG and PPM have no whole numbers of more than 16 bits
    sixteen = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in ("PNG", "PPM")
    )
    return Image.fromarray(to_bytes(np.asarray(image), WORD if sixteen else None))
