"""Keep what a teacher says of the training set on disk, computed once.

A file is named by the hash of the teacher's weights and of how it is asked, and by that of its
content, without which it is not used. Its rows are found by the hash of each image. So runs with
other seeds or weights of regularizers share it, and an image that it does not hold is never taken
for another one.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from fxtransport.data import OrderedStream, ShuffledStream
from fxtransport.errors import CheckpointError, UsageError
from fxtransport.files import file_hash, path_beside, put
from fxtransport.objectives.transfer import Reference
from fxtransport.training.cache import write_rows
from fxtransport.training.teacher import Teacher
from fxtransport.training.tensor_files import find_tensors, write_errors

_IMAGES, _LOGITS = "images", "logits"
_HASH_BYTES = 16


class CachedTeacher:
    """A teacher whose answers for the training set are read from a file.

    Args:
        teacher: The teacher.
        folder: Where the file is kept; made if it does not exist.
    """

    def __init__(self, teacher: Teacher, folder: Path) -> None:
        self.teacher = teacher
        self._folder = folder
        self._rows: dict[bytes, int] = {}
        self._tensors: dict[str, torch.Tensor] = {}

    def fill(
        self, train: ShuffledStream, device: torch.device, observe: Callable[[], None]
    ) -> None:
        """Compute the file for a training set, or find it.

        Args:
            train: Batches of images; nothing about them may be random.
            device: Where the teacher is.
            observe: Called after every batch.

        Raises:
            CheckpointError: the file cannot be written, or is damaged.
        """
        batches = OrderedStream(train.samples, train.batch_size, train.num_workers)
        kind = f"teacher-{self._key(batches)[:16]}"
        path = find_tensors(self._folder, kind)
        if path is None:
            path = self._folder / kind
            with write_errors(self._folder), path_beside(path) as beside:
                write_rows(beside, self._answers(batches, device, observe), len(train.samples))
                path = self._folder / f"{kind}-{file_hash(beside)[:16]}.safetensors"
                put(beside, path)
        self._read(path)

    def __call__(self, images: torch.Tensor) -> Reference:
        """What the teacher says of images of the training set, on the CPU.

        Raises:
            UsageError: an image is not in the file, because it was augmented, say.
        """
        try:
            rows = [self._rows[key] for key in image_keys(images)]
        except KeyError as error:
            raise UsageError(
                "the teacher's cache does not hold an image of this batch; train without a cache "
                "where images change from epoch to epoch"
            ) from error
        found = {name: tensor[rows] for name, tensor in self._tensors.items()}
        logits = found.pop(_LOGITS, None)
        return Reference({name[1:]: value for name, value in found.items()}, logits)

    def _answers(
        self, batches: OrderedStream, device: torch.device, observe: Callable[[], None]
    ) -> Iterator[dict[str, torch.Tensor]]:
        for images, _ in batches:
            answer = self.teacher(images.to(device))
            rows = {f".{name}": value.cpu() for name, value in answer.activations.items()}
            if answer.logits is not None:
                rows[_LOGITS] = answer.logits.cpu()
            keys = b"".join(image_keys(images))
            hashes = torch.frombuffer(bytearray(keys), dtype=torch.uint8)
            yield {**rows, _IMAGES: hashes.view(-1, _HASH_BYTES)}
            observe()

    def _read(self, path: Path) -> None:
        try:
            # mapped, not read: pages are loaded from the disk when their rows are read
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            hashes = tensors.pop(_IMAGES)
        except (KeyError, OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} is damaged ({error}); delete it") from error
        self._rows = {bytes(row.tolist()): i for i, row in enumerate(hashes)}
        self._tensors = tensors

    def _key(self, batches: OrderedStream) -> str:
        """A hash of the teacher, of how it is asked, of the number of images and the first ones."""
        teacher = self.teacher
        layers = [(layer.name, layer.channels) for layer in teacher.layers]
        asked = (teacher.sha256, layers, teacher.pool, teacher.bridge, teacher.logits)
        digest = hashlib.sha256(repr((asked, len(batches.samples))).encode())
        images, _ = next(iter(batches))
        for key in image_keys(images):
            digest.update(key)
        return digest.hexdigest()


def image_keys(images: Any) -> list[bytes]:
    """A hash of each of B images, of its values and shape.

    Raises:
        UsageError: they are not one tensor.
    """
    if not isinstance(images, torch.Tensor):
        raise UsageError("the teacher's cache is for inputs that are one tensor; train without it")
    kept = images.detach().cpu().contiguous()
    about = f"{kept.dtype} {tuple(kept.shape[1:])}".encode()
    rows = kept.flatten(1).view(torch.uint8).numpy()
    return [
        hashlib.blake2b(about + row.tobytes(), digest_size=_HASH_BYTES).digest() for row in rows
    ]
