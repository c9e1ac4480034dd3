"""The folder of a run: checkpoints that stay complete through a crash at any moment.

``checkpoint.json`` is the last checkpoint. It holds a hash of itself, and names the file of the
tensors, that of the best weights, and those of weights kept along the run, with their sizes and
hashes; no other file counts. Every file is written under a temporary name, flushed to the disk,
and renamed. ``checkpoint.json`` is renamed last, and the files that it no longer names are deleted
after that, so it describes a complete checkpoint at any moment. What the run did not write is
neither deleted nor replaced.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fxtransport.errors import CheckpointError, first_line
from fxtransport.files import (
    file_hash,
    has_content,
    library_versions,
    put,
    read_json,
)
from fxtransport.training.flatten import Flattened, unflatten
from fxtransport.training.manifest import FILES, Manifest
from fxtransport.training.tensor_files import Weights, find_tensors, write_errors

FORMAT = 3
CHECKPOINT = "checkpoint.json"
_HASH = "sha256"
_OLDER = (
    "the run was made by fxtransport 0.1, or by a version between that and this one; export its "
    "weights with that version, or train again"
)


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
    whole: Weights | None = None
    """Those with which the last exit was best."""

    @property
    def weights(self) -> tuple[Weights, ...]:
        """All files of weights that it names, beside its own tensors."""
        found = (self.best, self.whole, *(kept.weights for kept in self.kept))
        return tuple(weights for weights in found if weights is not None)


class RunFolder:
    """Writes and reads the checkpoints of one run.

    Args:
        path: The folder. It is made with the first file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.manifest = Manifest(self.path)

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint, complete or damaged."""
        return os.path.lexists(self.path / CHECKPOINT)

    @property
    def is_begun(self) -> bool:
        """Whether all in the folder is of a run that ended before its first checkpoint.

        Raises:
            CheckpointError: it cannot be read.
        """
        with self.writing():
            names = {path.name for path in self.path.iterdir()}
            ours = {FILES, *self.manifest.names(), *self.manifest.leftovers()}
            return CHECKPOINT not in names and names <= ours

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
            "whole": checkpoint.whole and asdict(checkpoint.whole),
            "kept": [asdict(kept) for kept in checkpoint.kept],
            "state": flat.tree,
        }
        self.write_json(CHECKPOINT, {**content, _HASH: content_hash(content)})
        named = {last.file, *(weights.file for weights in checkpoint.weights)}
        with self.writing():
            self.manifest.delete("last-|best-|epoch-", named)

    def write_tensors(self, kind: str, tensors: dict[str, torch.Tensor]) -> Weights:
        """Write a safetensors file, named by its hash, so that it never overwrites another.

        Raises:
            CheckpointError: it cannot be written.
        """
        with self.new_file() as beside:
            save_file(tensors, beside)
            return self.put_tensors(beside, kind)

    def put_tensors(self, beside: Path, kind: str) -> Weights:
        """Put a safetensors file that was written, under a name with its hash.

        Raises:
            CheckpointError: there is another file of that name.
        """
        size, sha256 = beside.stat().st_size, file_hash(beside)
        weights = Weights(f"{kind}-{sha256[:16]}.safetensors", size, sha256)
        self.put(beside, weights.file)
        return weights

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file. A file of that name is replaced atomically.

        Raises:
            CheckpointError: it cannot be written.
        """
        self.write_text(name, json.dumps(content) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a file of text. A file of that name that the run wrote is replaced atomically.

        Raises:
            CheckpointError: it cannot be written, or the run did not write the file that is there.
        """
        with self.new_file() as beside:
            beside.write_text(text, encoding="utf-8")
            self.put(beside, name)

    @contextmanager
    def new_file(self) -> Iterator[Path]:
        """A temporary path to write a file at, for :meth:`put`; deleted if it is not put.

        Raises:
            CheckpointError: the file cannot be written.
        """
        with self.writing(), self.manifest.new_file() as beside:
            yield beside

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn errors of the system into one that says whether the last checkpoint is complete.

        Raises:
            CheckpointError: the folder, or a file in it, cannot be written or read.
        """
        left = "; the last checkpoint there is complete" if self.has_checkpoint else ""
        with write_errors(self.path, left):
            yield

    def put(self, beside: Path, name: str) -> None:
        """Flush a file to the disk and rename it to its name in the folder.

        Raises:
            CheckpointError: there is a file of that name that the run did not write.
        """
        self.manifest.claim(name)
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
        found = read_json(path, "checkpoint", FORMAT, CheckpointError, older=_OLDER)
        if found.pop(_HASH, None) != content_hash(found):
            raise CheckpointError(f"{path} is damaged, or was edited: it is not what was written")
        return found

    def read(self) -> Checkpoint:
        """The last checkpoint.

        Raises:
            CheckpointError: there is none, or it is damaged, or not a valid checkpoint.
        """
        path = self.path / CHECKPOINT
        found = self._read_description()
        try:
            last = Weights.read(found["tensors"])
            best = None if found["best"] is None else Weights.read(found["best"])
            # which runs of earlier versions do not have
            noted = found.get("whole")
            whole = None if noted is None else Weights.read(noted)
            kept = tuple(
                KeptWeights(int(each["epochs"]), Weights.read(each["weights"]))
                for each in found["kept"]
            )
            state = unflatten(found["state"], self.read_tensors(last))
            return Checkpoint(dict(found["summary"]), state, best, kept, whole)
        except (KeyError, RecursionError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: {first_line(error)}") from error

    def adopt(self, checkpoint: Checkpoint, *names: str) -> None:
        """Take files for those of the run, if the list of its files is lost.

        Args:
            checkpoint: The last one, which is the run's.
            names: Of further files.

        Raises:
            CheckpointError: the list cannot be written.
        """
        tensors = self._read_description()["tensors"]["file"]
        with self.writing():
            if not self.manifest.names():
                files = [weights.file for weights in checkpoint.weights]
                self.manifest.note(CHECKPOINT, tensors, *files, *names)

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
        path = self.path / weights.file
        try:
            same = has_content(path, weights.size, weights.sha256)
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
        if not same:
            raise CheckpointError(f"{path} is damaged, or not the file that {CHECKPOINT} describes")
        return path

    def find_tensors(self, kind: str) -> Path | None:
        """A file that :meth:`put_tensors` put and that is as it was; None if there is none.

        Args:
            kind: The beginning of its name.

        Raises:
            CheckpointError: a link, a pipe, a device or a folder is in its place.
        """
        return find_tensors(self.path, kind)


def content_hash(content: Mapping[str, Any]) -> str:
    """The hash that ``checkpoint.json`` holds of its other entries."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
