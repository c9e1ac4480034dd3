"""The images that a reader of timm finds, and what to do with those that cannot be read."""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from fxtransport.data.decode import BAD_IMAGE, decode, seems_whole
from fxtransport.errors import UsageError, first_line

READERS = 8
"""How many threads read files to hash them; they wait for the disk."""
DIGEST = 16
"""The number of bytes of an image's hash."""
SHOWN = 3
"""How many names a note has."""
ON_BAD_IMAGE = ("stop", "skip")


@dataclass(frozen=True)
class ReaderImages:
    """The images that a reader of timm finds.

    timm's own dataset replaces an image that cannot be read by the next one, which may belong
    to another split. Here that is an error.

    Args:
        reader: timm's.
        kept: Which of its images, by their places; all if None.
        hashed: The hashes of the files of these, if they are known.
    """

    reader: Any
    kept: tuple[int, ...] | None = None
    hashed: tuple[bytes, ...] | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.reader) if self.kept is None else len(self.kept)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        try:
            file, target, *_ = self.reader[self._place(index)]
            with file:
                image = decode(file)
        except BAD_IMAGE as error:
            raise UsageError(
                f"{self.name(index)}: cannot be read as an image: {first_line(error)}; repair it "
                "and resume, or begin another run with on_bad_image='skip'"
            ) from error
        return image, int(target)

    def name(self, index: int) -> str:
        """The name of an image's file."""
        return str(self.reader.filename(self._place(index), absolute=True))

    @cached_property
    def classes(self) -> tuple[int, ...]:
        """The class of every image."""
        # a reader of folders lists its samples, others can iterate over their classes
        samples = getattr(self.reader, "samples", None)
        known = self.reader.iter_targets() if samples is None else (c for _, c in samples)
        every = [int(c) for c in known]
        return tuple(every if self.kept is None else (every[i] for i in self.kept))

    @cached_property
    def hashes(self) -> tuple[bytes, ...]:
        """A hash of each image's file. All files are read, by several threads.

        Raises:
            UsageError: one cannot be read, or is not an image.
        """
        return self.hashed or examine(self).images.hashed or ()

    def inspect(self, *, whole: bool) -> "list[_File]":
        """Read all files, by several threads: what they contain, and what is wrong with them.

        Args:
            whole: Decode every image, and not only those that seem to be damaged.
        """
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(lambda i: self._inspect(i, whole=whole), range(len(self))))

    def _inspect(self, index: int, *, whole: bool) -> "_File":
        name = Path(self.name(index))
        try:
            if name.exists() and not name.is_file():
                # opening a pipe would wait for ever
                return _File(b"", "not a file")
            file, *_ = self.reader[self._place(index)]
            with file:
                data = file.read()
        except OSError as error:
            return _File(b"", f"cannot be read: {error.strerror}")
        return _File(hashlib.blake2b(data, digest_size=DIGEST).digest(), _defect(data, whole=whole))

    def _place(self, index: int) -> int:
        return index if self.kept is None else self.kept[index]


class Examined(NamedTuple):
    """Images of which it is known that they can be read."""

    images: ReaderImages
    note: str | None
    """What was left out."""


class _File(NamedTuple):
    """What was found in an image's file."""

    hash: bytes
    defect: str | None


def examine(images: ReaderImages, *, on_bad: str = "stop", whole: bool = False) -> Examined:
    """Read the files of all images, and see which of them are images.

    Args:
        images: The images.
        on_bad: ``stop`` or ``skip``: whether one that cannot be read is an error or is left out.
        whole: Decode every image. Otherwise, those are decoded that do not begin and end as
            their formats do.

    Raises:
        UsageError: one cannot be read, and shall not be left out.
    """
    files = images.inspect(whole=whole)
    bad = [i for i, file in enumerate(files) if file.defect is not None]
    if bad and on_bad == "stop":
        more = f"; {len(bad) - 1} more cannot be read" if len(bad) > 1 else ""
        raise UsageError(
            f"{images.name(bad[0])}: {files[bad[0]].defect}{more}: repair or delete what cannot "
            "be read, or leave it out with on_bad_image='skip'"
        )
    good = [i for i, file in enumerate(files) if file.defect is None]
    kept = None if images.kept is None and not bad else tuple(map(images._place, good))
    found = ReaderImages(images.reader, kept, tuple(files[i].hash for i in good))
    return Examined(found, _left_out(images, bad) if bad else None)


def _defect(data: bytes, *, whole: bool) -> str | None:
    """Why a file is not an image; None if it is one, as far as was looked."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind = image.format
        if whole or not seems_whole(data, kind):
            decode(io.BytesIO(data))
    except BAD_IMAGE as error:
        return f"cannot be read as an image: {first_line(error)}"
    return None


def _left_out(images: ReaderImages, bad: Sequence[int]) -> str:
    more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    count = f"{len(bad)} image{'' if len(bad) == 1 else 's'}"
    names = ", ".join(images.name(i) for i in bad[:SHOWN])
    return f"{count} that cannot be read left out: {names}{more}"
