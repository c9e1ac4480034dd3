"""The folder of a detector: JSON and safetensors, checked in full when read. Nothing is executed.

``detector.json`` says which detector it is, its settings, the model that it belongs to, thresholds,
and which safetensors file holds its arrays, with that file's hash and a hash of all that the JSON
says. It is replaced last, so the folder describes a complete detector at any moment. The hashes
find damage, and files that do not belong together; they do not prove who wrote a folder.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from fxtransport.detection.calibration import Calibration
from fxtransport.detection.checks import State
from fxtransport.detection.identity import ModelIdentity
from fxtransport.errors import SavedDetectorError, UsageError
from fxtransport.files import (
    check_tensors,
    file_hash,
    library_versions,
    open_file,
    path_beside,
    put,
    read_json,
)

FORMAT = 1
DESCRIPTION = "detector.json"

_ARRAYS = "detector-{}.safetensors"
_STATE, _CLEAN, _ATTACKED = "state.", "calibration.clean", "calibration.attacked"
_FPRS, _TPRS = (0.001, 0.01, 0.05, 0.1), (0.95,)
_KEYS = {"format", "detector", "settings", "model", "thresholds", "versions", "arrays", "seal"}


@dataclass(frozen=True, eq=False)
class SavedDetector:
    """What a detector's folder holds.

    Attributes:
        detector: The detector's name.
        arrays: What it learned, by name.
        settings: What else it learned, values of JSON only.
        calibration: Scores of images that it was not fitted on, if it was calibrated.
        model: The model that it belongs to, if that is known.
    """

    detector: str
    arrays: Mapping[str, NDArray[Any]]
    settings: Mapping[str, Any]
    calibration: Calibration | None = None
    model: ModelIdentity | None = None

    @property
    def thresholds(self) -> dict[str, float]:
        """The thresholds of usual rates, those that the calibration supports: ``fpr=0.05``."""
        found = {}
        if self.calibration is None:
            return {}
        for fpr in _FPRS:
            if self.calibration.supports_fpr(fpr):
                found[f"fpr={fpr:g}"] = self.calibration.threshold_of_fpr(fpr)
        for tpr in _TPRS:
            if self.calibration.supports_tpr(tpr):
                found[f"tpr={tpr:g}"] = self.calibration.threshold_of_tpr(tpr)
        return found

    def state(self) -> State:
        """What it learned, to be taken one by one."""
        return State(self.arrays, self.settings)


def write(folder: str | os.PathLike[str], saved: SavedDetector) -> None:
    """Write a detector into a folder, which is made if it does not exist.

    A detector that is there is replaced, and stays complete until then.

    Raises:
        SavedDetectorError: the folder cannot be written, or a setting is not a value of JSON.
    """
    target = Path(folder)
    tensors = {f"{_STATE}{name}": array for name, array in saved.arrays.items()}
    if saved.calibration is not None:
        tensors |= {_CLEAN: saved.calibration.clean, _ATTACKED: saved.calibration.attacked}
    try:
        with path_beside(target / _ARRAYS.format("new")) as beside:
            save_file({name: np.ascontiguousarray(a) for name, a in tensors.items()}, beside)
            sha256 = file_hash(beside)
            arrays = {"file": _ARRAYS.format(sha256[:16]), "sha256": sha256}
            text = _text(saved, arrays)
            put(beside, target / arrays["file"])
        with path_beside(target / DESCRIPTION) as beside:
            beside.write_text(text, encoding="utf-8")
            put(beside, target / DESCRIPTION)
        for other in target.glob(_ARRAYS.format("*")):
            if other.name != arrays["file"]:
                other.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SavedDetectorError(f"cannot write into {folder}: {reason}") from error


def read(folder: str | os.PathLike[str]) -> SavedDetector:
    """What a detector's folder holds, checked but for what only its detector understands.

    Raises:
        SavedDetectorError: there is no detector, or a damaged one, or one of another format.
    """
    path = Path(folder) / DESCRIPTION
    found = read_json(path, "detector", FORMAT, SavedDetectorError)
    try:
        _check_description(found)
        model = None if found["model"] is None else ModelIdentity.of(found["model"])
        tensors = _read_arrays(path.parent, found["arrays"])
        saved = SavedDetector(
            detector=found["detector"],
            arrays={
                name.removeprefix(_STATE): array
                for name, array in tensors.items()
                if name.startswith(_STATE)
            },
            settings=found["settings"],
            calibration=_calibration(tensors),
            model=model,
        )
        if found["thresholds"] != saved.thresholds:
            raise UsageError("its thresholds are not those of its calibration scores")
    except SavedDetectorError:
        raise
    except UsageError as error:
        raise SavedDetectorError(f"{path} is damaged: {error}") from error
    return saved


def _text(saved: SavedDetector, arrays: dict[str, str]) -> str:
    content = {
        "format": FORMAT,
        "detector": saved.detector,
        "settings": dict(saved.settings),
        "model": saved.model and saved.model.to_json(),
        "thresholds": saved.thresholds,
        "versions": library_versions(),
        "arrays": arrays,
    }
    try:
        return json.dumps({**content, "seal": _seal(content)}, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise SavedDetectorError(f"a detector's settings are saved as JSON: {error}") from error


def _seal(content: Mapping[str, Any]) -> str:
    """The hash of a description without its seal."""
    rest = {name: value for name, value in content.items() if name != "seal"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check_description(found: dict[str, Any]) -> None:
    if set(found) != _KEYS:
        wrong = sorted(set(found) ^ _KEYS)
        raise UsageError(f"{', '.join(map(repr, wrong))} is missing, or not of a detector")
    if found["seal"] != _seal(found):
        raise UsageError("it is not as it was written: its seal is another")
    kinds = {"detector": str, "settings": dict, "thresholds": dict, "versions": dict}
    for name, kind in {**kinds, "arrays": dict}.items():
        if not isinstance(found[name], kind):
            raise UsageError(f"{name!r} is invalid: {found[name]!r}")


def _read_arrays(folder: Path, described: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays of the file that is described."""
    sha256 = described.get("sha256")
    if not isinstance(sha256, str) or described.get("file") != _ARRAYS.format(sha256[:16]):
        raise UsageError("its file of arrays is not described in a valid way")
    # the name alone, so that it stays within the folder
    return read_arrays(folder / Path(described["file"]).name, sha256, DESCRIPTION)


def read_arrays(path: Path, sha256: Any, description: str) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file.

    Args:
        path: The file.
        sha256: The hash of its content.
        description: The name of the file that says so.

    Raises:
        SavedDetectorError: it cannot be read, is no file, is damaged, or has another hash.
    """
    try:
        check_tensors(path)
        with open_file(path) as file:
            content = file.read()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise SavedDetectorError(
                f"{path} is damaged, or not the file that {description} describes"
            )
        return load(content)
    except OSError as error:
        raise SavedDetectorError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, KeyError, RecursionError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SavedDetectorError(f"{path} is damaged: {reason}") from error


def _calibration(tensors: Mapping[str, NDArray[Any]]) -> Calibration | None:
    own = {_CLEAN, _ATTACKED}
    strange = [name for name in tensors if not name.startswith(_STATE) and name not in own]
    if strange or len(own & tensors.keys()) == 1:
        raise UsageError(f"its arrays are not those of a detector: {', '.join(sorted(tensors))}")
    if _CLEAN not in tensors:
        return None
    return Calibration(tensors[_CLEAN], tensors[_ATTACKED])
