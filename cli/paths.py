"""Names of files, given as arguments or on stdin."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

STDIN = "-"


def paths_of(names: Iterable[str]) -> Iterator[Path]:
    """The files and folders that are named, on stdin, one a line, where - stands.

    Raises:
        UsageError: stdin has no name.
    """
    from fxtransport.errors import UsageError

    for name in names:
        if name != STDIN:
            yield Path(name)
            continue
        # a name is bytes, which need not be text
        lines = sys.stdin.buffer.read().split(b"\n")
        kept = [line.removesuffix(b"\r") for line in lines if line.strip()]
        listed = [Path(os.fsdecode(line)) for line in kept]
        if not listed:
            raise UsageError("there is no name of an image on stdin: write one a line")
        yield from listed
