"""What was found when images were read, by the hashes of their files: none is decoded twice."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from PIL import Image

from fxtransport.data.decode import BAD_IMAGE, decode, seems_whole
from fxtransport.errors import UsageError, first_line

DIGEST = 16
"""The number of bytes of an image's hash."""
GOOD = "ok"


class CheckedFile(NamedTuple):
    """What was found in an image's file."""

    hash: bytes
    defect: str | None
    """Why it cannot be read as an image; None if it can, as far as was looked."""


@dataclass(frozen=True)
class Checked:
    """Which images were decoded, and what is wrong with those that could not be.

    Images are known by what their files contain, so a file that changes is decoded again.

    Args:
        defects: By the hash of a file, why it cannot be read; None if it was decoded.

    >>> checked = Checked()
    >>> checked.check(b"no image").defect
    'cannot be read as an image: cannot identify image file'
    >>> len(Checked.parse(checked.text()).defects)
    1
    """

    defects: dict[bytes, str | None] = field(default_factory=dict)

    def check(self, data: bytes, *, whole: bool = True) -> CheckedFile:
        """See whether a file is an image. Several threads may do so.

        Args:
            data: The file.
            whole: Decode it, unless it was decoded before. Otherwise it is decoded if it does
                not begin and end as its format does.
        """
        key = hashlib.blake2b(data, digest_size=DIGEST).digest()
        if key not in self.defects:
            defect = _defect(data, whole=whole)
            if not whole and defect is None:
                return CheckedFile(key, None)
            self.defects[key] = defect
        return CheckedFile(key, self.defects[key])

    def text(self) -> str:
        """The text of its file: a line for each image."""
        return "".join(f"{key.hex()} {self.defects[key] or GOOD}\n" for key in sorted(self.defects))

    @classmethod
    def parse(cls, text: str) -> "Checked":
        """What a text of :meth:`text` says.

        Raises:
            UsageError: it is not such a text.
        """
        return cls(dict(_entries(text)))


def _entries(text: str) -> Iterator[tuple[bytes, str | None]]:
    for number, line in enumerate(text.splitlines(), 1):
        key, _, defect = line.partition(" ")
        try:
            found = bytes.fromhex(key)
        except ValueError:
            found = b""
        if len(found) != DIGEST or not defect:
            raise UsageError(f"line {number} is not the hash of an image and what was found of it")
        yield found, None if defect == GOOD else defect


def _defect(data: bytes, *, whole: bool) -> str | None:
    """Why a file is not an image; None if it is one, as far as was looked."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind = image.format
        if whole or not seems_whole(data, kind):
            decode(io.BytesIO(data))
    except BAD_IMAGE as error:
        # PIL names the object in memory, whose address differs in each process
        said = first_line(error).partition(" <_io.BytesIO")[0]
        return f"cannot be read as an image: {said}"
    return None
