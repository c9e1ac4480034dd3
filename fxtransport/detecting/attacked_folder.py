"""The folder of attacked images: safetensors, what became of each, and pictures."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file

from fxtransport.detecting.source import BATCH
from fxtransport.detection.attacks import AttackedSet, PixelModel
from fxtransport.detection.attacks.attack import predict
from fxtransport.errors import UsageError

FORMAT = 1
DESCRIPTION = "attacks.json"
_LEVELS = 255


def write_attacked(
    folder: str | os.PathLike[str], made: AttackedSet, class_names: Sequence[str], *, pictures: bool
) -> None:
    """Write the images of an attack into a folder.

    ``NAME.safetensors`` holds ``clean`` and ``attacked`` (N×C×H×W, float32, pixels from 0 to 1),
    ``labels``, ``before`` and ``after`` (the true classes, and those that the model predicts for
    clean and attacked images: N, int64) and ``counted`` (which count as attacked: N, bool).

    Args:
        folder: Where; it is made if it does not exist.
        made: The images.
        class_names: The names of the classes.
        pictures: Also write the attacked images as PNG, of 8 bits, in a folder ``NAME``.

    Raises:
        UsageError: the folder cannot be written.
    """
    path = Path(folder)
    tensors = {name: getattr(made, name) for name in ("clean", "attacked", "labels", "before")}
    tensors |= {"after": made.after, "counted": torch.from_numpy(made.outcome.counted)}
    try:
        path.mkdir(parents=True, exist_ok=True)
        kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(kept, path / f"{made.attack}.safetensors")
        if pictures:
            _write_pictures(path / made.attack, made, class_names)
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}") from error


def write_description(folder: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write ``attacks.json``: the model, the data, and what the attacks did.

    Raises:
        UsageError: the folder cannot be written.
    """
    text = json.dumps({"format": FORMAT, **content}, indent=2)
    try:
        (Path(folder) / DESCRIPTION).write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}") from error


def summary(made: AttackedSet, model: PixelModel | None = None) -> dict[str, Any]:
    """What an attack did, as values of JSON.

    Args:
        made: The images.
        model: The classifier, to tell how many of the counted images fool it as PNG, too.
    """
    rate = made.success_rate
    found: dict[str, Any] = {
        "attack": made.attack,
        "settings": made.settings,
        "success_rate": None if math.isnan(rate) else rate,
        "counts": made.counts,
    }
    if model is not None:
        rounded = (made.attacked * _LEVELS).round() / _LEVELS
        still = (predict(model, rounded, BATCH) != made.labels) & made.successful
        found["successful_as_png"] = int(still.sum())
    return found


def _write_pictures(folder: Path, made: AttackedSet, class_names: Sequence[str]) -> None:
    folder.mkdir(exist_ok=True)
    levels = (made.attacked * _LEVELS).round().byte().movedim(1, 3).cpu().numpy()
    width = len(str(len(made)))
    for number, image in enumerate(levels):
        pixels = image if image.shape[2] > 1 else image[..., 0]
        label, after = (int(each[number]) for each in (made.labels, made.after))
        name = f"{number:0{width}}-{_word(class_names[label])}-as-{_word(class_names[after])}.png"
        Image.fromarray(pixels).save(folder / name)


def _word(name: str) -> str:
    """A class's name as part of a file's name."""
    return "".join(sign if sign.isalnum() else "_" for sign in name)[:40]
