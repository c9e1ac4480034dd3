"""Images in files, as the model of a run takes them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fxtransport.data.decode import extensions
from fxtransport.data.streams import leave_signals_to_parent
from fxtransport.data.transforms import Transforms, make_transforms
from fxtransport.detecting.image_files import open_picture
from fxtransport.errors import UsageError
from fxtransport.runs.inputs import Inputs


@dataclass(frozen=True, eq=False)
class Picture:
    """An image that was read, or why it cannot be.

    Attributes:
        name: Its path.
        pixels: C×H×W, as the model takes them; None where it cannot be read.
        reason: Why not.
    """

    name: str
    pixels: Tensor | None
    reason: str = ""


def find_pictures(paths: Iterable[Path]) -> list[Path]:
    """The files that are named, and those of images in the folders that are named, in order.

    Hidden files, and those in hidden folders, are not looked for. A file that is named and is not
    there is in the list; reading it says so.

    Raises:
        UsageError: a folder holds no image.
    """
    known = extensions()
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = (p for p in path.rglob("*") if p.suffix.lower() in known and p.is_file())
        own = sorted(p for p in inside if not _is_hidden(p.relative_to(path)))
        if not own:
            raise UsageError(f"{path} holds no image")
        found += own
    return found


def read_pictures(
    inputs: Inputs, paths: Sequence[Path], *, batch_size: int, num_workers: int = 0
) -> Iterator[list[Picture]]:
    """Read images in batches, as they were read for validation. One that cannot be read is told.

    Args:
        inputs: How the run's images are prepared.
        paths: Of files.
        batch_size: How many are in a batch.
        num_workers: How many processes read; with 0 this process does.

    Raises:
        UsageError: the run is not of images.
    """
    if inputs.transform is None or len(inputs.input_size) != 3:
        raise UsageError(f"the run was trained on points, not on images: {inputs.description}")
    transforms = make_transforms(inputs.input_size, inputs.transform, None)
    loader = DataLoader(
        _Files(tuple(paths), transforms),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=leave_signals_to_parent if num_workers else None,
    )
    return iter(loader)


@dataclass(frozen=True)
class _Files(Dataset[Picture]):
    paths: tuple[Path, ...]
    transforms: Transforms

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Picture:
        path = self.paths[index]
        try:
            image = open_picture(path)
        except UsageError as error:
            reason = str(error) if path.exists() else "there is no such file"
            return Picture(str(path), None, reason)
        return Picture(str(path), self.transforms.plain(image.convert(self.transforms.mode)))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
