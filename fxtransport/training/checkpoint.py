"""The folder of a run: checkpoints that a crash at any moment leaves whole.

``checkpoint.json`` is the last checkpoint, and the only file that says which others count: it
names the tensors' file and the best weights' file, with their hashes. Every file is written
beside its place, flushed to the disk, and renamed; ``checkpoint.json`` goes last, and what it
no longer names is deleted after that. So at every moment it describes something complete.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fxtransport.errors import CheckpointError
from fxtransport.files import file_hash, library_versions, path_beside, put, read_json
from fxtransport.training.flatten import Flattened, unflatten

FORMAT = 1
CHECKPOINT = "checkpoint.json"
_OURS = ("last-*.safetensors", "best-*.safetensors", "*.new")


@dataclass(frozen=True)
class Weights:
    """A file of tensors in a run's folder."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """What ``checkpoint.json`` and the tensors that it names hold."""

    summary: dict[str, Any]
    """What the run is and where it is, for people and for comparison: plain JSON."""
    state: Any
    best: Weights | None


class RunFolder:
    """Writes and reads the checkpoints of one run.

    Args:
        path: The folder; it is made with the first file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint, whole or not."""
        return (self.path / CHECKPOINT).exists()

    def write(self, checkpoint: Checkpoint) -> None:
        """Make this the last checkpoint, and delete what it does not need.

        Raises:
            CheckpointError: it cannot be written. The one before is still there.
        """
        flat = Flattened(checkpoint.state)
        last = self.write_tensors("last", flat.tensors)
        content = {
            "format": FORMAT,
            "versions": library_versions(),
            "summary": checkpoint.summary,
            "tensors": asdict(last),
            "best": checkpoint.best and asdict(checkpoint.best),
            "state": flat.tree,
        }
        self.write_json(CHECKPOINT, content)
        self._delete_all_but({last.file, checkpoint.best.file if checkpoint.best else ""})

    def write_tensors(self, kind: str, tensors: dict[str, torch.Tensor]) -> Weights:
        """Write a safetensors file that is named by its hash, so never over another.

        Raises:
            CheckpointError: it cannot be written.
        """
        with self.written(f"{kind}.safetensors") as beside:
            save_file(tensors, beside)
            sha256 = file_hash(beside)
            weights = Weights(f"{kind}-{sha256[:16]}.safetensors", sha256)
            self.put(beside, weights.file)
        return weights

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file; what had its name is replaced at once or stays.

        Raises:
            CheckpointError: it cannot be written.
        """
        with self.written(name) as beside:
            beside.write_text(json.dumps(content) + "\n", encoding="utf-8")
            self.put(beside, name)

    @contextmanager
    def written(self, name: str) -> Iterator[Path]:
        """A path to write at, beside a file's place; what was not put there is deleted.

        Raises:
            CheckpointError: of an error of the system, in one line.
        """
        try:
            with path_beside(self.path / name) as beside:
                yield beside
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            left = "; the last checkpoint there is whole" if self.has_checkpoint else ""
            raise CheckpointError(f"cannot write into {self.path}: {reason}{left}") from error

    def put(self, beside: Path, name: str) -> None:
        """Flush a file to the disk and give it its name in the folder."""
        put(beside, self.path / name)

    def read(self) -> Checkpoint:
        """The last checkpoint.

        Raises:
            CheckpointError: there is none, or it is damaged, or of something else.
        """
        path = self.path / CHECKPOINT
        found = read_json(path, "checkpoint", FORMAT, CheckpointError)
        try:
            last = Weights(**found["tensors"])
            best = Weights(**found["best"]) if found["best"] else None
            summary, tree = dict(found["summary"]), found["state"]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error
        return Checkpoint(summary, unflatten(tree, self.read_tensors(last)), best)

    def read_tensors(self, weights: Weights) -> dict[str, torch.Tensor]:
        """The tensors of a file that a checkpoint names.

        Raises:
            CheckpointError: it is not there, or not what the checkpoint means.
        """
        path = self.verified(weights)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot read {path}: {error}") from error

    def verified(self, weights: Weights) -> Path:
        """Where a file is that a checkpoint names.

        Raises:
            CheckpointError: it is not there, or not what the checkpoint means.
        """
        # a name, and no way out of the folder
        path = self.path / Path(weights.file).name
        try:
            found = file_hash(path)
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
        if found != weights.sha256:
            raise CheckpointError(
                f"{path} is damaged, or not the one that {CHECKPOINT} beside it describes"
            )
        return path

    def _delete_all_but(self, kept: set[str]) -> None:
        for pattern in _OURS:
            for path in self.path.glob(pattern):
                if path.name not in kept:
                    path.unlink(missing_ok=True)
