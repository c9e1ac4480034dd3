import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fxtransport.detection import saved
from fxtransport.detection.calibration import Calibration
from fxtransport.detection.detector import Detector
from fxtransport.detection.forest import TransportForest
from fxtransport.detection.lid import LidForest
from fxtransport.detection.one_class import OneClass
from fxtransport.detection.quantile import QuantileRule
from fxtransport.detection.saved import DESCRIPTION, SavedDetector, read, write
from fxtransport.errors import SavedDetectorError, UsageError
from fxtransport.files import file_hash
from tests.detection.detectors import fitted, parts
from tests.detection.test_identity import identity

KINDS: list[type[Detector]] = [TransportForest, OneClass, QuantileRule, LidForest]
CHANGES = 60
"""Of each kind of detector, in each fuzz test."""
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e308, float("nan"), float("inf"), 10**30, 10**400,
    "", "x", "\x00", "../detector.json", [], [0], {}, {"a": 1}, [[[[]]]],
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind of detector."""
    root = tmp_path_factory.mktemp("detectors")
    for kind in KINDS:
        fitted(kind).save(root / kind.name, identity())
    return {kind.name: root / kind.name for kind in KINDS}


def arrays_of(folder: Path) -> Path:
    (found,) = folder.glob("*.safetensors")
    return found


def outcome(kind: type[Detector], folder: Path) -> np.ndarray | None:
    """Scores and p-values of some digits, or None after an error of ours of one line."""
    few = parts()[1].attacked.take(range(20))
    try:
        made = kind.load(folder)
        found = np.stack([made.score(few), made.p_value(few)])
    except UsageError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 2000
        return None
    assert np.isfinite(found).all()
    assert ((found[1] > 0) & (found[1] <= 1)).all()
    return found


def check_refused_or_same(kind: type[Detector], folder: Path, before: np.ndarray) -> bool:
    """Whether it was refused; other numbers fail."""
    found = outcome(kind, folder)
    assert found is None or (found == before).all()
    return found is None


def seal(folder: Path, found: dict[str, Any]) -> None:
    """Write a description as if it had been written so: with the hashes of what is there."""
    path = arrays_of(folder)
    sha256 = file_hash(path)
    if found.get("arrays") is not None and isinstance(found["arrays"], dict):
        found["arrays"] = {"file": f"detector-{sha256[:16]}.safetensors", "sha256": sha256}
        path.rename(folder / found["arrays"]["file"])
    found["seal"] = saved._seal(found)
    (folder / DESCRIPTION).write_text(json.dumps(found), encoding="utf-8")


def copied(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    return to


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value of some JSON, containers included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inner:
        yield (*before, key)
        if isinstance(each, dict | list):
            yield from paths(each, (*before, key))


def changed(found: dict[str, Any], path: tuple[Any, ...], to: Any) -> dict[str, Any]:
    result = copy.deepcopy(found)
    inner: Any = result
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return result


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_any_change_of_a_file_is_noticed(
    kind: type[Detector], folders: dict[str, Path], tmp_path: Path
) -> None:
    """Bytes flipped, cut off, added, moved, doubled, in either file."""
    before = outcome(kind, folders[kind.name])
    assert before is not None
    generator = np.random.default_rng(0)
    refused = 0
    for number in range(CHANGES):
        folder = copied(folders[kind.name], tmp_path / "folder")
        path = folder / DESCRIPTION if number % 2 else arrays_of(folder)
        content = bytearray(path.read_bytes())
        at, to = np.sort(generator.integers(0, len(content), size=2))
        match number // 2 % 6:
            case 0:
                content[at] ^= 1 << generator.integers(8)
            case 1:
                del content[at:]
            case 2:
                content += bytes(generator.integers(0, 256, size=9, dtype=np.uint8))
            case 3:
                content[at:at] = content[at:to]
            case 4:
                content[at:to] = bytes(to - at)
            case _:
                content[at], content[to] = content[to], content[at] ^ 255
        path.write_bytes(content)
        refused += check_refused_or_same(kind, folder, before)
    # a space more between two words of JSON changes nothing
    assert refused > 0.9 * CHANGES


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_any_field_that_is_changed_under_its_seal_is_noticed(
    kind: type[Detector], folders: dict[str, Path], tmp_path: Path
) -> None:
    """Every value of the JSON, to some of the odd kinds each."""
    source = folders[kind.name]
    before = outcome(kind, source)
    assert before is not None
    found = json.loads((source / DESCRIPTION).read_text())
    folder = copied(source, tmp_path / "folder")
    generator = np.random.default_rng(3)
    for path in paths(found):
        for at in generator.choice(len(ODD), size=6, replace=False):
            to = ODD[at]
            (folder / DESCRIPTION).write_text(json.dumps(changed(found, path, to)))
            check_refused_or_same(kind, folder, before)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_fields_that_are_changed_and_sealed_again(
    kind: type[Detector], folders: dict[str, Path], tmp_path: Path
) -> None:
    """By someone who writes hashes, too: one line, or numbers."""
    folder = copied(folders[kind.name], tmp_path / "folder")
    found = json.loads((folder / DESCRIPTION).read_text())
    generator = np.random.default_rng(1)
    every = list(paths(found))
    for _ in range(3 * CHANGES):
        path = every[generator.integers(len(every))]
        seal(folder, changed(found, path, ODD[generator.integers(len(ODD))]))
        outcome(kind, folder)
    for path in [path for path in every if path[0] not in ("arrays", "seal")]:
        result = copy.deepcopy(found)
        inner: Any = result
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        seal(folder, result)
        # a model's class fewer, or a library's version, or a trial's figure, does not score
        if outcome(kind, folder) is not None:
            assert path[0] in ("model", "versions") or path[:2] == ("settings", "validation")
    seal(folder, found)
    assert outcome(kind, folder) is not None


def retyped(array: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """An array of other numbers, of another type, shape or size."""
    limits = [0, 1, -1, 7, 127, 2**31 - 1, -(2**31)]
    floats = [*limits, 0.5, np.nan, np.inf, -np.inf, 1e-45, 3e38]
    flat = array.copy().reshape(-1)
    match generator.integers(8):
        case 0 | 1 | 2:
            some = generator.integers(max(1, flat.size), size=3)
            if flat.size:
                flat[some] = generator.choice(limits if array.dtype.kind == "i" else floats, size=3)
            return flat.reshape(array.shape)
        case 3:
            kinds = [np.float16, np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_]
            return array.astype(kinds[generator.integers(len(kinds))])
        case 4:
            return array[: array.shape[0] // 2].copy()
        case 5:
            return np.concatenate([array, array])
        case 6:
            return array.reshape(*array.shape, 1)
        case _:
            return np.roll(flat, 1).reshape(array.shape)


@pytest.mark.filterwarnings("ignore:.*encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_arrays_that_are_changed_and_sealed_again(
    kind: type[Detector], folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(folders[kind.name], tmp_path / "folder")
    found = json.loads((folder / DESCRIPTION).read_text())
    tensors = load_file(arrays_of(folder))
    generator = np.random.default_rng(2)
    refused = 0
    for _ in range(2 * CHANGES):
        new = dict(tensors)
        name, other = generator.choice(sorted(tensors), size=2)
        match generator.integers(6):
            case 0:
                del new[name]
            case 1:
                new[f"{name}.more"] = new[name]
            case 2:
                new[name], new[other] = new[other], new[name]
            case _:
                new[name] = retyped(new[name], generator)
        arrays_of(folder).unlink()
        save_file(new, folder / "any.safetensors")
        seal(folder, found)
        refused += outcome(kind, folder) is None
    assert refused > CHANGES


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}},
        {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [0, 2**63 - 1], "data_offsets": [0, 0]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**40]}},
        {"a": 3},
        [],
    ],
    ids=str,
)
def test_files_that_claim_what_they_do_not_hold(
    header: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(folders["quantile"], tmp_path / "folder")
    found = json.loads((folder / DESCRIPTION).read_text())
    text = json.dumps(header).encode()
    arrays_of(folder).write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    seal(folder, found)
    with pytest.raises(SavedDetectorError, match="damaged"):
        QuantileRule.load(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 1}',
        '{"format": 2}',
        "[" * 100_000,
        "\ufeff{}",
        "1" * 9999,
    ],
    ids=lambda text: text[:12],
)
def test_descriptions_that_are_none(text: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders["quantile"], tmp_path / "folder")
    (folder / DESCRIPTION).write_text(text)
    with pytest.raises(SavedDetectorError):
        QuantileRule.load(folder)


def test_a_folder_without_a_detector(tmp_path: Path) -> None:
    with pytest.raises(SavedDetectorError, match="does not hold a detector: it has no"):
        QuantileRule.load(tmp_path)
    fitted(QuantileRule).save(tmp_path)
    arrays_of(tmp_path).unlink()
    with pytest.raises(SavedDetectorError, match=r"cannot read .*: No such file"):
        QuantileRule.load(tmp_path)


def test_arrays_of_two_detectors_are_not_mixed(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders["quantile"], tmp_path / "folder")
    name = arrays_of(folder).name
    shutil.copy(arrays_of(folders["one-class"]), folder / name)
    with pytest.raises(SavedDetectorError, match=r"not the file that detector\.json describes"):
        QuantileRule.load(folder)


def test_the_model_is_saved_with_the_detector(folders: dict[str, Path]) -> None:
    again = QuantileRule.load(folders["quantile"])
    assert again.model == identity()
    assert read(folders["quantile"]).detector == "quantile"


def test_thresholds_are_there_for_those_who_read_the_file(folders: dict[str, Path]) -> None:
    found = json.loads((folders["transport"] / DESCRIPTION).read_text())["thresholds"]
    made = fitted(TransportForest)
    assert found == {
        "fpr=0.01": made.threshold(fpr=0.01),
        "fpr=0.05": made.threshold(fpr=0.05),
        "fpr=0.1": made.threshold(fpr=0.1),
        "tpr=0.95": made.threshold(tpr=0.95),
    }


def test_what_loads_and_scores_needs_no_scikit_learn(folders: dict[str, Path]) -> None:
    """So a service beside a classifier does not install it."""
    code = (
        "import sys, numpy as np; sys.modules['sklearn'] = sys.modules['scipy'] = None\n"
        "from fxtransport.detection.forest import TransportForest\n"
        "made = TransportForest.load(sys.argv[1])\n"
        "print(made.p_value(np.ones((1, 8), np.float32), np.zeros(1, int)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folders["transport"]],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[0.")


def test_a_save_replaces_the_detector_that_is_there(tmp_path: Path) -> None:
    first, other = parts()
    QuantileRule(0.1, 0.9).fit(first.clean).save(tmp_path)
    fitted(QuantileRule).save(tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    expected = fitted(QuantileRule).score(other.clean)
    assert (QuantileRule.load(tmp_path).score(other.clean) == expected).all()


def test_an_interrupted_save_leaves_the_old_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = parts()
    made = QuantileRule(0.1, 0.9).fit(first.clean)
    made.save(tmp_path)
    puts = saved.put

    def interrupted(beside: Path, target: Path) -> None:
        if target.name == DESCRIPTION:
            raise OSError(28, "No space left on device")
        puts(beside, target)

    monkeypatch.setattr(saved, "put", interrupted)
    with pytest.raises(SavedDetectorError, match=r"cannot write into .*: No space left"):
        fitted(QuantileRule).save(tmp_path)
    assert (QuantileRule.load(tmp_path).score(other.clean) == made.score(other.clean)).all()


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SavedDetectorError, match="cannot write into"):
        fitted(QuantileRule).save(tmp_path / "file")


@pytest.mark.parametrize("setting", [np.float32(1), float("nan"), {1, 2}, b"x"], ids=repr)
def test_settings_are_values_of_json(setting: Any, tmp_path: Path) -> None:
    with pytest.raises(SavedDetectorError, match="settings are saved as JSON"):
        write(tmp_path, SavedDetector("norm", {}, {"a": setting}))


def test_a_detector_without_arrays(tmp_path: Path) -> None:
    write(tmp_path, SavedDetector("norm", {}, {"a": 1}, Calibration(np.zeros(1))))
    again = read(tmp_path)
    assert (again.settings, again.model, dict(again.arrays)) == ({"a": 1}, None, {})
