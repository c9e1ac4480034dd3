"""A file of records: a header, and a line of JSON for each model."""

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from fxtransport.errors import UsageError, first_line
from fxtransport.files import library_versions
from fxtransport.zoo.record import Options, Record


@dataclass(frozen=True)
class Records:
    """What a file holds."""

    header: dict[str, object]
    """What the records depend on."""
    found: list[Record]
    size: int
    """Bytes up to the end of the last whole line."""


def header(options: Options) -> dict[str, object]:
    """The first line of a file of records: what they depend on."""
    return {**library_versions(), "python": platform.python_version(), **asdict(options)}


def read_records(file: Path) -> Records:
    """Read the records of a file; an incomplete last line is left out.

    Raises:
        UsageError: it is not a file of records, or cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not a file of records: {first_line(error)}") from error
    return _parse(file, text[: text.rfind("\n") + 1])


def open_records(file: Path, options: Options, *, resume: bool) -> tuple[TextIO, list[Record]]:
    """Open a file to append records, and read those that it has already.

    An incomplete last line is dropped.

    Raises:
        UsageError: the file exists and ``resume`` is false, it was made with other versions or
            options, it is not a file of records, or it cannot be written.
    """
    expected = header(options)
    before = Records(expected, [], 0)
    if file.exists() and file.stat().st_size:
        if not resume:
            raise UsageError(f"{file} exists; resume it (resume=True) or give another file")
        before = read_records(file)
        _check_header(file, before.header, expected)
    try:
        stream = file.open("a", encoding="utf-8")
        stream.truncate(before.size)
        if not before.size:
            stream.write(json.dumps(expected) + "\n")
            stream.flush()
    except OSError as error:
        raise UsageError(f"cannot write into {file}: {error.strerror}") from error
    return stream, before.found


def _parse(file: Path, text: str) -> Records:
    try:
        first, *lines = text.splitlines()
        found = [Record.from_json(line) for line in lines]
        return Records(dict(json.loads(first)), found, len(text.encode()))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is not a file of records: {first_line(error)}") from error


def _check_header(file: Path, found: dict[str, object], expected: dict[str, object]) -> None:
    differing = [key for key in expected if found.get(key) != expected[key]]
    if differing:
        made = ", ".join(f"{key} {found.get(key)}, not {expected[key]}" for key in differing)
        raise UsageError(f"{file} cannot be resumed: it was made with {made}; give another file")
