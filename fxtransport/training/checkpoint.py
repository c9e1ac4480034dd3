"""The folder of a run: checkpoints that stay complete through a crash at any moment.

``checkpoint.json`` is the last checkpoint. It names the file of the tensors, that of the best
weights, and those of weights kept along the run, with their hashes; no other file counts. Every
file is written under a temporary name, flushed to the disk, and renamed. ``checkpoint.json`` is
renamed last, and the files that it no longer names are deleted after that, so it describes a
complete checkpoint at any moment.
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

FORMAT = 2
CHECKPOINT = "checkpoint.json"
_OLDER = (
    "the run was made by fxtransport 0.1, whose settings had other names; export its weights with "
    "that version, or train again"
)
_OURS = ("last-*.safetensors", "best-*.safetensors", "epoch-*.safetensors", "*.new")


@dataclass(frozen=True)
class Weights:
    """A file of tensors in a run's folder."""

    file: str
    sha256: str


@dataclass(frozen=True)
class KeptWeights:
    """The weights that a run had after some of its epochs."""

    epochs: int
    """The number of epochs that were done; 0: the weights that it began with."""
    weights: Weights


@dataclass(frozen=True)
class Checkpoint:
    """The content of ``checkpoint.json`` and of the tensors that it names."""

    summary: dict[str, Any]
    """What the run is and how far it is, for people and for comparison: plain JSON."""
    state: Any
    best: Weights | None
    kept: tuple[KeptWeights, ...] = ()
    """Weights along the run, in the order of their epochs."""


class RunFolder:
    """Writes and reads the checkpoints of one run.

    Args:
        path: The folder. It is made with the first file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint, complete or damaged."""
        return (self.path / CHECKPOINT).exists()

    def write(self, checkpoint: Checkpoint) -> None:
        """Make this the last checkpoint, and delete the files that it does not need.

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
            "kept": [asdict(kept) for kept in checkpoint.kept],
            "state": flat.tree,
        }
        self.write_json(CHECKPOINT, content)
        named = {last.file, *(kept.weights.file for kept in checkpoint.kept)}
        self._delete_all_but(named | ({checkpoint.best.file} if checkpoint.best else set()))

    def write_tensors(self, kind: str, tensors: dict[str, torch.Tensor]) -> Weights:
        """Write a safetensors file, named by its hash, so that it never overwrites another.

        Raises:
            CheckpointError: it cannot be written.
        """
        with self.new_file(f"{kind}.safetensors") as beside:
            save_file(tensors, beside)
            sha256 = file_hash(beside)
            weights = Weights(f"{kind}-{sha256[:16]}.safetensors", sha256)
            self.put(beside, weights.file)
        return weights

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file. A file of that name is replaced atomically.

        Raises:
            CheckpointError: it cannot be written.
        """
        with self.new_file(name) as beside:
            beside.write_text(json.dumps(content) + "\n", encoding="utf-8")
            self.put(beside, name)

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        """A temporary path to write a file at, for :meth:`put`; deleted if it is not put.

        Raises:
            CheckpointError: the file cannot be written.
        """
        try:
            with path_beside(self.path / name) as beside:
                yield beside
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            left = "; the last checkpoint there is complete" if self.has_checkpoint else ""
            raise CheckpointError(f"cannot write into {self.path}: {reason}{left}") from error

    def put(self, beside: Path, name: str) -> None:
        """Flush a file to the disk and rename it to its name in the folder."""
        put(beside, self.path / name)

    def summary(self) -> dict[str, Any] | None:
        """What the last checkpoint says of the run; None if there is none.

        Raises:
            CheckpointError: this version does not read it, or it is damaged.
        """
        if not self.has_checkpoint:
            return None
        found = self._read_description().get("summary")
        if not isinstance(found, dict):
            raise CheckpointError(f"{self.path / CHECKPOINT} is damaged: it has no summary")
        return found

    def _read_description(self) -> dict[str, Any]:
        path = self.path / CHECKPOINT
        return read_json(path, "checkpoint", FORMAT, CheckpointError, older=_OLDER)

    def read(self) -> Checkpoint:
        """The last checkpoint.

        Raises:
            CheckpointError: there is none, or it is damaged, or not a valid checkpoint.
        """
        path = self.path / CHECKPOINT
        found = self._read_description()
        try:
            last = Weights(**found["tensors"])
            best = Weights(**found["best"]) if found["best"] else None
            # folders that an earlier version wrote have none
            kept = tuple(
                KeptWeights(int(each["epochs"]), Weights(**each["weights"]))
                for each in found.get("kept", ())
            )
            summary, tree = dict(found["summary"]), found["state"]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error
        return Checkpoint(summary, unflatten(tree, self.read_tensors(last)), best, kept)

    def read_tensors(self, weights: Weights) -> dict[str, torch.Tensor]:
        """The tensors of a file that a checkpoint names.

        Raises:
            CheckpointError: it is missing, or its hash is another.
        """
        path = self.verify(weights)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot read {path}: {error}") from error

    def verify(self, weights: Weights) -> Path:
        """The path of a file that a checkpoint names, after a look at its hash.

        Raises:
            CheckpointError: it is missing, or its hash is another.
        """
        # the name alone, so that it stays within the folder
        path = self.path / Path(weights.file).name
        try:
            found = file_hash(path)
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
        if found != weights.sha256:
            raise CheckpointError(f"{path} is damaged, or not the file that {CHECKPOINT} describes")
        return path

    def _delete_all_but(self, kept: set[str]) -> None:
        for pattern in _OURS:
            for path in self.path.glob(pattern):
                if path.name not in kept:
                    path.unlink(missing_ok=True)
