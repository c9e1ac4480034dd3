"""Detectors from the command line, each command in a process of its own, as users run them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CODE = "from fxtransport.cli.main import main; main()"
TRAIN = (
    "train nets:resnet_m --model-arg blocks=3 --model-arg channels=8 --image-size 8 --method e2e "
    "--epochs 4 --lr 0.05 --batch-size 32 --validation 0.4 --device cpu --output run"
)


def fxtransport(folder: Path, command: str, code: int = 0) -> tuple[str, str]:
    """Run a command in a folder: its stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *command.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and detectors that were fitted for it."""
    folder = tmp_path_factory.mktemp("detection")
    fxtransport(folder, TRAIN)
    fit = "detect fit run --attack fgm --epsilon 0.1 --detector combined,one-class,energy -o det"
    fxtransport(folder, f"{fit} --device cpu")
    return folder


@pytest.mark.slow
def test_attacks_are_written_and_found(place: Path) -> None:
    """More than half of the counted ones at 5 %, by the detector that has seen FGM."""
    fxtransport(place, "detect attack run --attack fgm --epsilon 0.1 --split test -o attacked")
    [about] = json.loads((place / "attacked" / "attacks.json").read_text())["attacks"]
    assert about["counts"]["counted"] > 60
    found, _ = fxtransport(place, "detect evaluate det --json")
    rows = {row["detector"]: row for row in map(json.loads, found.splitlines())}
    assert list(rows) == ["combined", "one-class", "energy"]
    assert rows["combined"]["counts"] == {
        name: count for name, count in about["counts"].items() if name != "broken"
    }
    assert rows["combined"]["metrics"]["successful"] > 0.5
    assert rows["combined"]["metrics"]["auroc"] > 0.9
    assert all(row["metrics"]["fpr"] < 0.13 for row in rows.values())


@pytest.mark.slow
def test_an_attacker_who_knows_the_detector(place: Path) -> None:
    """It is evaded in most cases, given enough distance."""
    cw = "cw{search_steps=3,steps=30,first_weight=1.0}"
    small = ["steps=4", "evaluations=20", "only=decisions"]
    options = " ".join(f"--adaptive-arg {each}" for each in small)
    command = f"detect evaluate det --images 30 --attack {cw} --adaptive {options} --json"
    found, errors = fxtransport(place, command)
    assert errors == ""
    rows = [json.loads(line) for line in found.splitlines()]
    before, after = ([row for row in rows if row["tested_on"] == n] for n in ("cw", "decisions"))
    assert [row["detector"] for row in after] == ["combined", "one-class", "energy"]
    assert after[0]["metrics"]["evaded"] > 0.3
    assert after[0]["metrics"]["successful"] < before[0]["metrics"]["successful"]


@pytest.mark.slow
def test_a_folder_of_detectors_stands_alone(place: Path, tmp_path: Path) -> None:
    """Without the run, in another folder, with pictures."""
    attack = "detect attack run --attack bim --epsilon 0.1 --split test --images 12 --png"
    fxtransport(place, f"{attack} -o {tmp_path / 'attacked'}")
    shutil.copytree(place / "det", tmp_path / "moved")
    lines, errors = fxtransport(tmp_path, "detect score moved attacked/bim --json")
    assert errors == ""
    assert len(lines.splitlines()) == 12
    assert {json.loads(line)["verdict"] for line in lines.splitlines()} <= {"clean", "suspicious"}
    (tmp_path / "attacked" / "bim" / "broken.png").write_bytes(b"")
    lines, errors = fxtransport(tmp_path, "detect score moved attacked/bim --csv", code=2)
    assert len(lines.splitlines()) == 13
    assert errors.count("error: ") == errors.count("\n") == 1


@pytest.mark.slow
def test_a_model_that_was_trained_further_is_refused(place: Path) -> None:
    further = TRAIN.replace("--epochs 4", "--epochs 5").replace("run", "further")
    fxtransport(place, further)
    fxtransport(place, "detect attack run --attack fgm --images 5 --png -o some")
    lines, _ = fxtransport(place, "detect score det some/fgm --model run --csv")
    assert len(lines.splitlines()) == 6
    lines, errors = fxtransport(place, "detect score det some/fgm --model further", code=2)
    assert lines == ""
    assert errors.splitlines()[-1].startswith("error: the detector was fitted for other weights")


@pytest.mark.slow
def test_the_exported_extractor(place: Path) -> None:
    pytest.importorskip("onnxscript")
    _, errors = fxtransport(place, "detect export det --onnx extractor.onnx")
    assert "images to logits, transport, laplacian; onnxruntime agrees with torch" in errors
    assert (place / "extractor.onnx").stat().st_size > 10_000
