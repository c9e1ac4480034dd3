"""The folder of detectors with their model: complete, checked when read, nothing pickled.

``detection.json`` says which model and detectors these are, and what they were fitted on;
``model/`` is the saved program, each other folder a detector; ``images.safetensors`` holds the
hashes of the images that were fitted on and calibrated with.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from fxtransport.detecting.fitted_on import FittedOn
from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.detecting.senses import Senses
from fxtransport.detection import detector_names, open_detector
from fxtransport.detection.checks import State
from fxtransport.detection.identity import ModelIdentity
from fxtransport.detection.saved import read_arrays
from fxtransport.errors import SavedDetectorError, UsageError
from fxtransport.files import check_writable, file_hash, library_versions, read_json
from fxtransport.program import Program
from fxtransport.storage import load, save

FORMAT = 1
DESCRIPTION, MODEL, IMAGES = "detection.json", "model", "images.safetensors"
_KEYS = {"format", "model", "detectors", "fitted_on", "images", "versions", "seal"}


def check_new(folder: str | os.PathLike[str]) -> None:
    """Check that a folder can be made.

    Raises:
        SavedDetectorError: it is there already, or cannot be written.
    """
    path = Path(folder)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise SavedDetectorError(f"{folder} already exists: name another folder")
    check_writable(folder, SavedDetectorError)


def save_detector(found: ImageDetector, folder: str | os.PathLike[str]) -> None:
    """Write detectors and their model into a new folder.

    The description is written last, so that an interrupted save leaves nothing that loads.

    Raises:
        SavedDetectorError: the folder is there already, or cannot be written.
        SavedProgramError: it is not known by which name the model is built.
    """
    check_new(folder)
    path = Path(folder)
    save(found.senses.program, path / MODEL)
    for name, detector in found.detectors.items():
        detector.save(path / name, found.identity)
    arrays = {
        "fitted": _as_array(found.fitted_hashes),
        "calibration": _as_array(found.calibration_hashes),
        "others": _as_array(found.other_hashes),
    }
    try:
        save_file(arrays, path / IMAGES)
        content = {
            "format": FORMAT,
            "model": found.identity.to_json(),
            "detectors": list(found.detectors),
            "fitted_on": found.fitted_on.to_json(),
            "images": file_hash(path / IMAGES),
            "versions": library_versions(),
        }
        text = json.dumps({**content, "seal": _seal(content)}, indent=2, allow_nan=False)
        (path / DESCRIPTION).write_text(f"{text}\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SavedDetectorError(f"cannot write into {folder}: {reason}") from error


def load_detector(
    folder: str | os.PathLike[str],
    program: Program | None = None,
    *,
    trust_files: bool = False,
) -> ImageDetector:
    """Load the detectors that ``fxtransport detect fit`` wrote, with their model, on the CPU.

    Args:
        folder: Where they are.
        program: The model that is watched; by default the one that is saved with them. It must
            have the graph and the weights that they were fitted for, and the activations that
            they read.
        trust_files: Whether a Python file may be run to build the saved model. Give it only for
            folders whose author you trust.

    Raises:
        SavedDetectorError: there are none, they are damaged, or of another model, or of other
            weights.
        SavedProgramError: the model is damaged, or needs a Python file and ``trust_files`` is
            not given.
    """
    path = Path(folder)
    content = _read(path)
    try:
        identity = ModelIdentity.of(content["model"])
        fitted_on = FittedOn.of(content["fitted_on"])
    except UsageError as error:
        raise SavedDetectorError(f"{path / DESCRIPTION} is damaged: {error}") from error
    hashes = _read_hashes(path / IMAGES, content["images"])
    detectors = {}
    for name in content["detectors"]:
        detectors[name] = open_detector(path / name)
        if detectors[name].name != name or detectors[name].model != identity:
            raise SavedDetectorError(f"{path / name} is not the detector that {DESCRIPTION} names")
    if program is None:
        program = load(path / MODEL, trust_files=trust_files)
    identity.check(program)
    senses = Senses(program, identity.preprocessing, detectors)
    return ImageDetector(senses, identity, detectors, fitted_on, *hashes)


def saved_detectors(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of the detectors in a folder.

    Raises:
        SavedDetectorError: there are none, or the description is damaged.
    """
    return tuple(_read(Path(folder))["detectors"])


def _read(folder: Path) -> dict[str, Any]:
    content = read_json(folder / DESCRIPTION, "detector", FORMAT, SavedDetectorError)
    try:
        _check(content)
    except UsageError as error:
        raise SavedDetectorError(f"{folder / DESCRIPTION} is damaged: {error}") from error
    return content


def _check(content: dict[str, Any]) -> None:
    if set(content) != _KEYS:
        wrong = sorted(set(content) ^ _KEYS)
        raise UsageError(f"{', '.join(map(repr, wrong))} is missing, or not of a detector")
    if content["seal"] != _seal(content):
        raise UsageError("it is not as it was written: its seal is another")
    names = content["detectors"]
    known = detector_names()
    if not isinstance(names, list) or not names or not all(name in known for name in names):
        raise UsageError(f"its detectors are {names!r}")


def _seal(content: dict[str, Any]) -> str:
    """The hash of a description without its seal."""
    rest = {name: value for name, value in content.items() if name != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _as_array(hashes: tuple[str, ...]) -> np.ndarray:
    joined = b"".join(bytes.fromhex(each) for each in hashes)
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32).copy()


def _read_hashes(path: Path, sha256: Any) -> list[tuple[str, ...]]:
    """Those of images that were fitted on, calibrated with, and of other data."""
    arrays = read_arrays(path, sha256, DESCRIPTION)
    # a folder that was written before other data could be fitted on has none
    names = ["fitted", "calibration", *(["others"] if "others" in arrays else [])]
    state = State(arrays, {})
    try:
        found = [state.array(name, np.uint8, None, 32) for name in names]
        state.finish()
    except UsageError as error:
        raise SavedDetectorError(f"{path} is damaged: {error}") from error
    return [tuple(row.tobytes().hex() for row in rows) for rows in found]
