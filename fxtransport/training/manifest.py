"""The names of the files that a run wrote into its folder: only these are replaced or deleted."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fxtransport.errors import CheckpointError
from fxtransport.files import append_text, check_place, path_beside, put, read_text

FILES = "files.txt"
HEADER = "# Files of this run. Only these are replaced or deleted."
_TOKEN = "token "
_MANY = 1000
"""Of more names than these, those of files that are there are kept."""
TENSORS = re.compile(r"(last|best|epoch-\d{5,}|hidden-[0-9a-f]{16})-[0-9a-f]{16}\.safetensors")
"""Names of files of tensors; the last digits are of the hash of their content."""


class Manifest:
    """What a run wrote into its folder, by name.

    A name is added before its file is there, and temporary files have a token of the run in
    theirs, so that nothing that a crash leaves is forgotten.

    Args:
        folder: The folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / FILES

    def names(self) -> set[str]:
        """All that was written, also files that are not there any more.

        Raises:
            OSError: the list cannot be read.
            CheckpointError: it is not one of ours.
        """
        return {line for line in self._lines() if not line.startswith(_TOKEN)}

    def leftovers(self) -> set[str]:
        """The names of temporary files that a crash left.

        Raises:
            OSError: the list, or the folder, cannot be read.
            CheckpointError: the list is not one of ours.
        """
        tokens = tuple(f".{token}-" for token in self._tokens())
        return {path.name for path in self._folder.glob(".*.new") if path.name.startswith(tokens)}

    def _tokens(self) -> list[str]:
        found = [line.removeprefix(_TOKEN) for line in self._lines() if line.startswith(_TOKEN)]
        return [token for token in found if re.fullmatch("[0-9a-f]{16}", token)]

    def _lines(self) -> list[str]:
        try:
            header, *lines = read_text(self._path).splitlines() or [""]
        except FileNotFoundError:
            return []
        except UnicodeDecodeError:
            header, lines = "", []
        if header != HEADER:
            raise CheckpointError(
                f"{self._path} is damaged, or not the list of files that a run writes; move it away"
            )
        return lines

    @contextmanager
    def new_file(self) -> Iterator[Path]:
        """A temporary file, to write; what has not been moved is deleted at the end.

        Raises:
            OSError: it cannot be written.
            CheckpointError: the list is not one of ours.
        """
        tokens = self._tokens()
        if not tokens:
            tokens = [secrets.token_hex(8)]
            self.note(_TOKEN + tokens[0])
        with path_beside(self._path, f"{tokens[0]}-") as beside:
            yield beside

    def note(self, *names: str) -> None:
        """Add names that are about to be written.

        Raises:
            OSError: the list cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        header = "" if self._path.exists() else f"{HEADER}\n"
        append_text(self._path, header + "".join(f"{name}\n" for name in names))

    def claim(self, name: str) -> None:
        """See that a name is free, or that of a file of this run, and add it.

        Raises:
            OSError: the list cannot be read or written.
            CheckpointError: the file is there and the run did not write it.
        """
        check_place(self._folder / name)
        if name in self.names():
            return
        if os.path.lexists(self._folder / name):
            raise CheckpointError(
                f"{self._folder / name} is there already, and this run did not write it; move it "
                "away, or choose another folder"
            )
        self.note(name)

    def delete(self, kind: str, kept: set[str]) -> None:
        """Delete files of tensors that this run wrote, and what a crash left half written.

        Args:
            kind: A pattern of the first part of their names.
            kept: The names of those that stay.

        Raises:
            OSError: one cannot be deleted.
            CheckpointError: the list is not one of ours.
        """
        names, there = self.names(), {path.name for path in self._folder.iterdir()}
        old = {n for n in names & there - kept if TENSORS.fullmatch(n) and re.match(kind, n)}
        for name in old | self.leftovers():
            (self._folder / name).unlink(missing_ok=True)
        if len(names) > _MANY + 2 * len(there):
            lines = [HEADER, *(_TOKEN + t for t in self._tokens()), *sorted(names & there - old)]
            with path_beside(self._path) as beside:
                beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
                put(beside, self._path)
