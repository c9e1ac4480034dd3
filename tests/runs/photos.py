"""A run on tiles of real photographs in files, which are gone when it has ended."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from PIL import Image

from fxtransport.data.patches import read_patches
from tests.cli.running import in_process

CLASSES = 3
SIZE = ("--input-size", "32", "--batch-size", "8", "--drop-last", "--validation", "0.2")
QUICK = ("--epochs", "2", "--lr", "0.02", "--no-verify", "--device", "cpu")


def write_tiles(folder: Path, count: int = 20) -> Path:
    """Tiles of three photographs, PNG and JPEG, with a folder for each."""
    pixels = read_patches()
    for place in range(CLASSES):
        own = pixels.levels[pixels.classes == place][:count]
        inside = folder / pixels.class_names[place]
        inside.mkdir(parents=True)
        for number, tile in enumerate(own):
            kind = "png" if number % 2 else "jpg"
            Image.fromarray(tile.astype("uint8")).save(inside / f"{number:02}.{kind}")
    return folder


@cache
def photo_run() -> Path:
    """A run of two parts, with ``moved/``, its images, beside it; tests may not change it."""
    folder = Path(mkdtemp())
    tiles = write_tiles(folder / "tiles")
    run = folder / "run"
    parts = ("--method", "trgl", "--modules", "2")
    arguments = ("train", "test_resnet", "--data", str(tiles), *parts, *SIZE, *QUICK)
    result = in_process(*arguments, "--output", str(run))
    assert result.exit_code == 0, result.stderr
    tiles.rename(folder / "moved")
    return run


def moved() -> Path:
    """Where the images are now."""
    return photo_run().parent / "moved"
