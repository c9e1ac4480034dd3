"""The folder of detectors: it says the same after it was read, and refuses what is not its own."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

import fxtransport
from fxtransport.detecting.folder import load_detector, save_detector, saved_detectors
from fxtransport.errors import SavedDetectorError, UsageError
from fxtransport.files import file_hash
from tests.detecting.small import DETECTORS, detector, new_images, saved, subject


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the folder, which a test may change."""
    return shutil.copytree(saved(), tmp_path / "det")


def test_what_is_loaded_says_the_same() -> None:
    found = fxtransport.load_detector(saved())
    assert tuple(found.detectors) == DETECTORS == saved_detectors(saved())
    assert found.identity == detector().identity
    assert found.fitted_on == detector().fitted_on
    assert found.fitted_hashes == detector().fitted_hashes
    for name in DETECTORS:
        own, other = (each.score(new_images().images, name) for each in (found, detector()))
        assert np.array_equal(own.scores, other.scores)
        assert np.array_equal(own.p_values, other.p_values)
        assert own.words == other.words


def test_the_folder_needs_nothing_else(tmp_path: Path) -> None:
    moved = shutil.copytree(saved(), tmp_path / "elsewhere")
    expected = detector().score(new_images().images).scores
    assert np.array_equal(load_detector(moved).score(new_images().images).scores, expected)


def test_the_model_itself_may_be_given() -> None:
    found = load_detector(saved(), subject().program)
    assert found.senses.program is subject().program


def test_other_weights_are_refused(copied: Path) -> None:
    """As after fine-tuning: the graph is the same."""
    path = copied / "model" / "weights.safetensors"
    weights = load_file(path)
    name = next(name for name, t in weights.items() if t.is_floating_point())
    weights[name] += 0.01
    save_file(weights, path)
    description = copied / "model" / "program.json"
    content = json.loads(description.read_text())
    with pytest.raises(UsageError, match="weights"):
        load_detector(copied)
    content["weights_hash"] = file_hash(path)
    description.write_text(json.dumps(content))
    with pytest.raises(SavedDetectorError, match="fitted for other weights of this model"):
        load_detector(copied)


def test_another_graph_is_refused() -> None:
    other = fxtransport.compile_named(
        "nets:resnet_m", options={"blocks": 2, "channels": 8}, input_size=8, verify=False
    )
    with pytest.raises(SavedDetectorError, match="fitted for another model: the graphs differ"):
        load_detector(saved(), other)


def test_a_detector_of_another_folder_is_refused(copied: Path) -> None:
    shutil.rmtree(copied / "knn")
    shutil.copytree(copied / "one-class", copied / "knn")
    with pytest.raises(SavedDetectorError, match="is not the detector that"):
        load_detector(copied)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("detection.json", "does not hold a detector: it has no detection.json"),
        ("images.safetensors", "cannot read .*images.safetensors"),
        ("knn/detector.json", "does not hold a detector: it has no detector.json"),
        ("model/program.json", "does not hold a program"),
    ],
)
def test_missing_files(copied: Path, file: str, words: str) -> None:
    (copied / file).unlink()
    with pytest.raises(UsageError, match=words):
        load_detector(copied)


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "terabyte"])
@pytest.mark.parametrize("file", ["detection.json", "images.safetensors", "knn/detector.json"])
def test_what_is_no_file_or_huge_is_refused(kind: str, file: str, copied: Path) -> None:
    """It is neither waited for nor read."""
    path = copied / file
    if kind == "terabyte":
        os.truncate(path, 2**40)
    else:
        path.rename(copied / "elsewhere")
        make = {"pipe": os.mkfifo, "folder": os.mkdir}
        make.get(kind, lambda path: path.symlink_to("elsewhere"))(path)
    with pytest.raises(SavedDetectorError, match=rf"{path.name}.*") as caught:
        load_detector(copied, subject().program)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"fitted": np.zeros((2, 32), np.uint8)}, "'calibration' is missing"),
        ({"fitted": np.zeros((2, 31), np.uint8)}, "'fitted' is uint8 of shape"),
        ({"fitted": np.zeros((2, 32), np.float32)}, "'fitted' is float32"),
    ],
)
def test_hashes_of_images_that_are_none(
    arrays: dict[str, np.ndarray], words: str, copied: Path
) -> None:
    """Even where the hash of their file and the seal fit."""
    from fxtransport.detecting import folder

    path = copied / "detection.json"
    save_arrays(arrays, copied / "images.safetensors")
    content = json.loads(path.read_text())
    content["images"] = file_hash(copied / "images.safetensors")
    content["seal"] = folder._seal(content)
    path.write_text(json.dumps(content))
    with pytest.raises(SavedDetectorError, match=words):
        load_detector(copied, subject().program)


def test_every_changed_byte_of_small_files_is_found(copied: Path) -> None:
    """One error of ours, whichever byte it is."""
    generator = np.random.default_rng(0)
    for name in ("detection.json", "images.safetensors", "knn/detector.json"):
        path = copied / name
        content = path.read_bytes()
        for place in generator.integers(0, len(content), 12):
            changed = bytearray(content)
            changed[place] ^= 1 << int(generator.integers(8))
            path.write_bytes(bytes(changed))
            try:
                found = load_detector(copied, subject().program)
            except UsageError as error:
                assert "\n" not in str(error)
            else:
                # a space that became another white space, say
                assert found.fitted_on == detector().fitted_on
        path.write_bytes(content)


def test_a_detector_from_a_hostile_description_is_refused(copied: Path) -> None:
    """Names lead nowhere else, even with a seal that fits."""
    from fxtransport.detecting import folder

    path = copied / "detection.json"
    for names in (["../outside"], [], "knn", [3], [["knn"]], None):
        content = json.loads(path.read_text())
        content["detectors"] = names
        content["seal"] = folder._seal(content)
        path.write_text(json.dumps(content))
        with pytest.raises(SavedDetectorError, match="is damaged"):
            load_detector(copied)


def test_a_folder_that_is_in_use_is_left_alone(copied: Path) -> None:
    with pytest.raises(SavedDetectorError, match="already exists"):
        save_detector(detector(), copied)
    assert load_detector(copied, subject().program).default == DETECTORS[0]


def test_an_interrupted_save_leaves_nothing_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fxtransport.detecting.folder.file_hash", fail)
    with pytest.raises(SavedDetectorError, match="No space left"):
        save_detector(detector(), tmp_path / "det")
    with pytest.raises(SavedDetectorError, match="it has no detection"):
        load_detector(tmp_path / "det")


def test_the_program_is_in_eval_mode() -> None:
    assert not load_detector(saved()).senses.program.training
    assert torch.is_grad_enabled()
