"""Sets of torchvision that keep their images in files, read as those of a folder are."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


@dataclass(frozen=True)
class TorchFiles:
    """The files of a set, as a reader of timm gives them.

    torchvision would decode them itself: without their orientation, and 16 bits clipped to 8.

    Args:
        root: The folder of the set.
        samples: The path and the class of each image.
    """

    root: Path
    samples: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[IO[bytes], int]:
        path, target = self.samples[index]
        return Path(path).open("rb"), target

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        """The name of a file, within the set unless asked otherwise."""
        path = self.samples[index][0]
        if basename:
            return Path(path).name
        return path if absolute else os.path.relpath(path, self.root)


def torch_files(dataset: Any, root: Path) -> TorchFiles | None:
    """The files of a set of torchvision; None of a set that is held in memory."""
    listed = getattr(dataset, "imgs", None)
    return None if listed is None else TorchFiles(root, tuple(listed))
