"""Where tensors rest that are not in use: the CPU's memory, or a file on the disk."""

import mmap
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from fxtransport.errors import CheckpointError, UsageError
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.settings import TrainerSettings

_ALIGNMENT = 64
"""Bytes, as of torch's own allocator."""

Storage = torch.UntypedStorage


class Place(Protocol):
    """Keeps storages. What it keeps stays readable and writable, as memory of the CPU."""

    def holds(self, storage: Storage) -> bool:
        """Whether a storage is in this place."""
        ...

    def keep(self, storages: Sequence[Storage]) -> list[Storage]:
        """Copies of storages, in this place.

        Raises:
            CheckpointError: they cannot be written.
        """
        ...

    def settle(self) -> None:
        """Free memory that reading or writing what is kept has taken."""
        ...

    def serves(self, device: torch.device) -> bool:
        """Whether a part whose tensors are here can run on the device as it is."""
        ...


class MainMemory:
    """The CPU's memory."""

    def holds(self, storage: Storage) -> bool:
        """Whether it is the CPU's."""
        return storage.device.type == "cpu"

    def keep(self, storages: Sequence[Storage]) -> list[Storage]:
        """Copies on the CPU."""
        return [storage.cpu() for storage in storages]

    def settle(self) -> None:
        """Nothing is to be freed."""

    def serves(self, device: torch.device) -> bool:
        """Only the CPU reads its memory."""
        return device.type == "cpu"


class Disk:
    """Files without a name, which the system deletes when the last tensor in them is freed.

    They are mapped into memory: pages are read from the disk when they are used, and what is
    written to a tensor is written to the file.

    Args:
        folder: On which disk. It is made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # a file lives as long as a tensor that is in it
        self._files: weakref.WeakKeyDictionary[mmap.mmap, range] = weakref.WeakKeyDictionary()

    def holds(self, storage: Storage) -> bool:
        """Whether it is in one of the files."""
        return storage.device.type == "cpu" and any(
            storage.data_ptr() in addresses for addresses in self._files.values()
        )

    def keep(self, storages: Sequence[Storage]) -> list[Storage]:
        """Copies in one new file.

        Raises:
            CheckpointError: it cannot be written.
        """
        if not storages:
            return []
        offsets = []
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder) as file:
                for storage in storages:
                    # written, not left as a hole: a full disk is an error here, not a fault later
                    file.write(bytes(-file.tell() % _ALIGNMENT))
                    offsets.append(file.tell())
                    file.write(_as_bytes(storage.cpu()).numpy().data)
                file.flush()
                mapped = mmap.mmap(file.fileno(), 0)
        except OSError as error:
            raise CheckpointError(
                f"cannot write parts that do not train into {self._folder}: {error.strerror}; make "
                "room there, or train without offload"
            ) from error
        start = torch.frombuffer(mapped, dtype=torch.uint8).data_ptr()
        self._files[mapped] = range(start, start + len(mapped))
        return [
            torch.frombuffer(
                mapped, dtype=torch.uint8, count=storage.nbytes(), offset=offset
            ).untyped_storage()
            for storage, offset in zip(storages, offsets, strict=True)
        ]

    def settle(self) -> None:
        """Let the system have the pages that were read or written; they are in the files."""
        for mapped in self._files:
            if hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)

    def serves(self, device: torch.device) -> bool:
        """The CPU reads the files as it reads memory."""
        return device.type == "cpu"


def copy_to(storage: Storage, device: torch.device) -> Storage:
    """A copy of a storage in a device's own memory."""
    copied = torch.empty(storage.nbytes(), dtype=torch.uint8, device=device)
    return copied.copy_(_as_bytes(storage)).untyped_storage()


def choose_place(
    settings: TrainerSettings, device: torch.device, folder: RunFolder | None
) -> Place:
    """Where parts that do not train rest.

    Args:
        settings: How the trainer runs.
        device: Where it trains.
        folder: Its run's folder, which files are written into.

    Raises:
        UsageError: files have no folder, or parts would rest where they train.
    """
    chosen = settings.offload_to or ("disk" if device.type == "cpu" else "cpu")
    if chosen == "cpu" and device.type == "cpu":
        raise UsageError(
            "offload_to='cpu' frees no memory where the device is the CPU; leave it out, and parts "
            "that do not train are kept on the disk"
        )
    if chosen == "cpu":
        return MainMemory()
    if folder is None:
        raise UsageError(
            "offload needs a run folder to keep parts in that do not train; give run=…"
        )
    return Disk(folder.path)


def _as_bytes(storage: Storage) -> torch.Tensor:
    """The bytes of a storage, without a copy."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
