"""The images that a reader of timm finds, and what to do with those that cannot be read."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from fxtransport.data.checked import Checked, CheckedFile
from fxtransport.data.decode import BAD_IMAGE, decode
from fxtransport.errors import UsageError, first_line

READERS = 8
"""How many threads read files to hash them; they wait for the disk."""
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
        by_content: Whether images are known by what their files contain; otherwise by the names
            of these, and no file is read ahead.
    """

    reader: Any
    kept: tuple[int, ...] | None = None
    hashed: tuple[bytes, ...] | None = field(default=None, compare=False, repr=False)
    by_content: bool = True

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
        """The name of an image's file, or its number where images are no files."""
        place = self._place(index)
        name = self.reader.filename(place, absolute=True)
        return f"image {place}" if name is None else str(name)

    @property
    def names(self) -> list[str]:
        """The name of each image's file within the set."""
        places = map(self._place, range(len(self)))
        return [str(self.reader.filename(place)) for place in places]

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

    def inspect(self, checked: Checked, *, whole: bool) -> list[CheckedFile]:
        """Read all files, by several threads: what they contain, and what is wrong with them.

        Args:
            checked: What is known of them, and is noted.
            whole: Decode every image, and not only those that seem to be damaged.
        """

        def inspect(index: int) -> CheckedFile:
            return self._inspect(index, checked, whole=whole)

        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(inspect, range(len(self))))

    def _inspect(self, index: int, checked: Checked, *, whole: bool) -> CheckedFile:
        name = Path(self.name(index))
        try:
            if name.exists() and not name.is_file():
                # opening a pipe would wait for ever
                return CheckedFile(b"", "not a file")
            file, *_ = self.reader[self._place(index)]
            with file:
                data = file.read()
        except OSError as error:
            return CheckedFile(b"", f"cannot be read: {error.strerror}")
        return checked.check(data, whole=whole)

    def _place(self, index: int) -> int:
        return index if self.kept is None else self.kept[index]


class Examined(NamedTuple):
    """Images of which it is known that they can be read."""

    images: ReaderImages
    note: str | None
    """What was left out."""


def examine(
    images: ReaderImages,
    *,
    on_bad: str = "stop",
    whole: bool = False,
    checked: Checked | None = None,
) -> Examined:
    """Read the files of all images, and see which of them are images.

    Args:
        images: The images.
        on_bad: ``stop`` or ``skip``: whether one that cannot be read is an error or is left out.
        whole: Decode every image. Otherwise, those are decoded that do not begin and end as
            their formats do.
        checked: What is known of them, and is noted.

    Raises:
        UsageError: one cannot be read, and shall not be left out.
    """
    files = images.inspect(Checked() if checked is None else checked, whole=whole)
    bad = [i for i, file in enumerate(files) if file.defect is not None]
    if bad and on_bad == "stop":
        more = f"; {len(bad) - 1} more cannot be read" if len(bad) > 1 else ""
        raise UsageError(
            f"{images.name(bad[0])}: {files[bad[0]].defect}{more}: repair or delete what cannot "
            "be read, or leave it out with on_bad_image='skip'"
        )
    good = [i for i, file in enumerate(files) if file.defect is None]
    kept = None if images.kept is None and not bad else tuple(map(images._place, good))
    found = replace(images, kept=kept, hashed=tuple(files[i].hash for i in good))
    names = [images.name(i) for i in bad[:SHOWN]]
    return Examined(found, left_out(len(bad), names) if bad else None)


def left_out(count: int, names: Sequence[str]) -> str:
    """That images were left out, in words.

    Args:
        count: How many.
        names: Of the first of them.
    """
    more = f" and {count - len(names)} more" if count > len(names) else ""
    images = f"{count} image{'' if count == 1 else 's'}"
    return f"{images} that cannot be read left out: {', '.join(names)}{more}"
