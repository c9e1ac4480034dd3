"""Images in files: pictures, and arrays of pixels."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fxtransport.data.decode import BAD_IMAGE, decode, extensions
from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.errors import MODEL_ERRORS, UsageError, first_line

ARRAYS = (".npy", ".safetensors")
"""Files of arrays: N×C×H×W or C×H×W, floating-point, pixels from 0 to 1."""
TENSORS = ("attacked", "images")
"""What the pixels are called in a file of safetensors."""
_UNREADABLE = (*MODEL_ERRORS, *BAD_IMAGE, Image.DecompressionBombWarning)
_SLACK = 1e-3


@dataclass(frozen=True, eq=False)
class Found:
    """An image that was read, or why it cannot be judged.

    Attributes:
        name: Its path, with its number where a file holds several.
        pixels: C×H×W as the model takes them, from 0 to 1; None where it cannot be read.
        reason: Why not.
    """

    name: str
    pixels: Tensor | None
    reason: str = ""


def find_images(paths: Iterable[Path]) -> list[Path]:
    """The files that are named, and those of images in the folders that are named, in order.

    Raises:
        UsageError: there is no such file, or a folder holds no image.
    """
    known = {*extensions(), *ARRAYS}
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            own = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in known)
            if not own:
                raise UsageError(f"{path} holds no image")
            found += own
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"{path}: there is no such file")
    return found


def read_images(detector: ImageDetector, paths: Iterable[Path]) -> Iterator[Found]:
    """Read images one by one; one that cannot be judged is told so, and the others follow."""
    for path in paths:
        try:
            if path.suffix.lower() in ARRAYS:
                yield from _rows(path, detector.identity.preprocessing.size)
            else:
                yield Found(str(path), detector.prepare(open_picture(path)))
        except UsageError as error:
            yield Found(str(path), None, str(error))


def open_picture(path: Path) -> Image.Image:
    """A picture, read to its end, as images are read for training.

    Raises:
        UsageError: it cannot be read as an image.
    """
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return decode(file)
    except UnidentifiedImageError as error:
        # its message names the file, or an object in memory, once more
        raise UsageError("cannot be read as an image: its format is not known") from error
    except _UNREADABLE as error:
        raise UsageError(f"cannot be read as an image: {_reason(error)}") from error


def _rows(path: Path, size: tuple[int, ...]) -> Iterator[Found]:
    """The images of a file of arrays.

    Raises:
        UsageError: it cannot be read, or holds no images of this size.
    """
    images = _read_array(path)
    if images.dim() == len(size):
        images = images[None]
    if images.dim() != 4 or not images.is_floating_point() or tuple(images.shape[1:]) != size:
        raise UsageError(
            f"holds {images.dtype} of {tuple(images.shape)}; pixels from 0 to 1 are needed, "
            f"floating-point, N×{'×'.join(map(str, size))}"
        )
    if not len(images):
        raise UsageError("holds no image")
    for number, image in enumerate(images):
        reason = _flaw(image)
        yield Found(f"{path}[{number}]", None if reason else image.float().clamp(0, 1), reason)


def _read_array(path: Path) -> Tensor:
    try:
        if path.suffix.lower() == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False))
        tensors = load_file(path)
    except (*_UNREADABLE, SafetensorError) as error:
        raise UsageError(f"cannot be read as an array: {_reason(error)}") from error
    for name in TENSORS:
        if name in tensors:
            return tensors[name]
    raise UsageError(
        f"holds {', '.join(sorted(tensors)) or 'nothing'}; pixels are called {' or '.join(TENSORS)}"
    )


def _flaw(image: Tensor) -> str:
    """Why an image of an array cannot be judged; empty if it can."""
    if not bool(image.isfinite().all()):
        return "holds NaN or infinities"
    low, high = float(image.min()), float(image.max())
    if low < -_SLACK or high > 1 + _SLACK:
        return f"holds numbers from {low:.3g} to {high:.3g}; pixels are from 0 to 1"
    return ""


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {first_line(error)}".split())
