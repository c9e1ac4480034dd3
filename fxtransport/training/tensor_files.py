"""Files of tensors that are known by their size and the hash of their content."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError

from fxtransport.errors import CheckpointError
from fxtransport.files import check_tensors, file_hash
from fxtransport.training.manifest import TENSORS


@dataclass(frozen=True)
class Weights:
    """A file of tensors in a run's folder."""

    file: str
    size: int
    """In bytes."""
    sha256: str

    @classmethod
    def read(cls, found: Any) -> Self:
        """The file that an entry of ``checkpoint.json`` names.

        Raises:
            TypeError: it is no such entry.
            ValueError: the name is not one of those that runs give.
        """
        weights = cls(**found)
        if not TENSORS.fullmatch(weights.file):
            raise ValueError(f"{weights.file!r:.80} is not a file of tensors")
        if type(weights.size) is not int or type(weights.sha256) is not str:
            raise TypeError(f"the size or the hash of {weights.file} is of another kind")
        return weights


def find_tensors(folder: Path, kind: str) -> Path | None:
    """A file that has the hash of its content in its name; None if there is none.

    Args:
        folder: Where.
        kind: The beginning of its name, ahead of the hash.

    Raises:
        CheckpointError: a link, a pipe, a device or a folder is in its place.
    """
    for path in sorted(folder.glob(f"{kind}-*.safetensors")):
        try:
            check_tensors(path)
            if file_hash(path)[:16] == path.stem.removeprefix(f"{kind}-"):
                return path
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
        except (RecursionError, ValueError):
            continue
    return None


@contextmanager
def write_errors(folder: Path, left: str = "") -> Iterator[None]:
    """Turn what goes wrong with files into one line.

    Args:
        folder: Where they are.
        left: What to add to the message.

    Raises:
        CheckpointError: a file cannot be written or read.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"cannot write into {folder}: {reason}{left}") from error
