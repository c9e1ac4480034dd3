"""``fxtransport detect fit``: from a run, or a model in a file, to a folder of detectors."""

import json
from pathlib import Path

import pytest

from fxtransport.detecting.folder import load_detector
from tests.cli.running import Command, trained, write_net
from tests.detecting.small import trained_run

FEW = ("--images", "150", "--device", "cpu")


def test_a_run_without_attacks(run: Command, tmp_path: Path) -> None:
    det = tmp_path / "det"
    result = run("detect", "fit", str(trained_run()), "-o", str(det), *FEW)
    assert result.exit_code == 0, result.stderr
    assert "digits, validation: fitted on 120 clean images, calibrated with 30" in result.stdout
    assert result.stdout.splitlines()[-1].split()[0] == "one-class"
    found = load_detector(det)
    assert list(found.detectors) == ["one-class"]
    assert found.identity.classes == tuple("0123456789")


def test_attacks_and_detectors(run: Command, tmp_path: Path) -> None:
    det = tmp_path / "det"
    result = run(
        *("detect", "fit", str(trained_run()), "-o", str(det), *FEW, "--epsilon", "0.1"),
        *("--attack", "fgm", "--attack", "bim{steps=3}", "--detector", "transport,energy"),
        *("--detector", "knn", "--held-out", "0.3", "--seed", "5"),
    )
    assert result.exit_code == 0, result.stderr
    about = load_detector(det).fitted_on
    assert [attack.name for attack in about.attacks] == ["fgm", "bim"]
    assert about.attacks[1].settings == {
        "epsilon": 0.1,
        "norm": "linf",
        "steps": 3,
        "relative_step": 0.2,
    }
    assert (about.clean, about.calibration, about.seed) == (105, 45, 5)
    assert list(load_detector(det).detectors) == ["transport", "energy", "knn"]
    table = [line.split() for line in result.stdout.splitlines()]
    [row] = [line for line in table if line[:1] == ["fgm"]]
    assert row[1] == f"{about.attacks[0].success_rate:.1%}"
    assert row[2] == str(about.attacks[0].counts["counted"])


def test_other_data_and_noisy_copies(run: Command, tmp_path: Path) -> None:
    det = tmp_path / "det"
    result = run(
        *("detect", "fit", str(trained_run()), "-o", str(det), *FEW, "--detector", "transport"),
        *("--ood", "mnist5k", "--attack", "fgm", "--epsilon", "0.1", "--noisy"),
    )
    assert result.exit_code == 0, result.stderr
    assert "120 clean images and 120 noisy copies of them, calibrated with 30" in result.stdout
    assert "to find, too: 150 images of mnist5k" in result.stdout
    about = load_detector(det).fitted_on
    assert (about.known, about.noisy) == (("fgm", "mnist5k"), 120)
    tested = ("detect", "evaluate", str(det), "--device", "cpu", "--images", "30")
    result = run(*tested, "--ood", "patches")
    assert result.exit_code == 0, result.stderr
    assert "fitted on fgm, mnist5k and clean images and noisy copies" in result.stdout
    result = run(*tested[:-1], "1000", "--ood", "mnist5k")
    assert result.exit_code == 2
    assert "150 of 1000 images of mnist5k" in result.stderr


@pytest.mark.slow
def test_combined_is_the_default_with_attacks(run: Command, tmp_path: Path) -> None:
    det = tmp_path / "det"
    arguments = ["--attack", "fgm", "--epsilon", "0.1", "--images", "300"]
    result = run("detect", "fit", str(trained_run()), "-o", str(det), *arguments)
    assert result.exit_code == 0, result.stderr
    assert load_detector(det).default == "combined"


def test_a_model_in_a_file_needs_data_and_trust(run: Command, tmp_path: Path) -> None:
    """It is named by the user, who trusts it; whoever loads the folder is asked again."""
    det, net = tmp_path / "det", write_net(tmp_path)
    arguments = ["detect", "fit", net, "-o", str(det), *FEW]
    result = run(*arguments)
    assert result.exit_code == 2
    assert "is not a run, which knows its data: give --data" in result.stderr
    result = run(*arguments, "--data", "digits", "--validation", "0.2")
    assert result.exit_code == 0, result.stderr
    about = json.loads((det / "detection.json").read_text())["fitted_on"]
    assert (about["data"]["name"], about["data"]["validation"]) == ("digits", 0.2)
    picture = str(Path(__file__).parents[2] / "tests" / "cli" / "surface.txt")
    refused = run("detect", "score", str(det), picture)
    assert refused.exit_code == 2
    assert "--trust-files" in refused.stderr
    assert refused.stdout == ""
    trusted = run("detect", "score", str(det), picture, "--trust-files")
    assert "cannot be read as an image" in trusted.stderr


def test_a_run_of_a_file_needs_trust(run: Command, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--epochs", "1", "--validation", "0.2")
    arguments = ["detect", "fit", str(folder), "-o", str(tmp_path / "det"), *FEW]
    result = run(*arguments)
    assert result.exit_code == 2
    assert "--trust-files" in result.stderr
    assert run(*arguments, "--trust-files").exit_code == 0


def test_a_run_without_validation(run: Command, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--epochs", "1", "--validation", "0")
    result = run(
        *("detect", "fit", str(folder), "-o", str(tmp_path / "det"), *FEW, "--trust-files")
    )
    assert result.exit_code == 2
    assert "has no validation split" in result.stderr
    assert "--validation 0.1" in result.stderr


BAD = {
    "no such model": (["nosuch", "--data", "digits"], "no model is called 'nosuch'"),
    "no such run": (["nosuch"], "no model is called 'nosuch'"),
    "no data of its own": (["nets:resnet_m", "--pretrained"], "not a run, which knows its data"),
    "no weights": (["nets:resnet_m", "--data", "digits"], "has no weights: give --pretrained"),
    "neither": (["{empty}"], "{empty} holds neither a run of fxtransport train nor a saved"),
    "a run has its size": (["{run}", "--input-size", "8"], "has its weights and its size"),
    "no such detector": (["{run}", "--detector", "energie"], "did you mean energy"),
    "no such attack": (["{run}", "--attack", "fgmm"], "no attack is called 'fgmm'"),
    "needs an attack": (["{run}", "--detector", "combined"], "name an attack"),
    "no data": (["{run}", "--data-arg", "x=1"], "--download, --data-arg and --validation go with"),
    "a run's share": (["{run}", "--validation", "0.3"], "go with --data"),
    "a run's transform": (["{run}", "--transform", "mean=[0]"], "which knows its transform"),
    "no such data": (["{run}", "--data", "nosuch"], "'nosuch' is neither a set nor a folder"),
    "points": (["{run}", "--data", "moons"], "moons are points of the plane"),
    "own data": (["{run}", "--ood", "digits"], "digits is what the model was trained for"),
    "no other": (["{run}", "--ood", "nosuch"], "'nosuch' is neither a set nor a folder"),
    "noise of none": (["{run}", "--noisy"], "name an attack"),
    "bad rate": (["{run}", "--held-out", "1"], "1.0 is not in the range 0<x<1"),
    "too few": (["{run}", "--images", "10"], "one-class needs 20 clean images"),
    "no device": (["{run}", "--device", "nosuch"], "the device 'nosuch' cannot be used"),
    "epsilon of none": (
        ["{run}", "--attack", "deepfool", "--epsilon", "0.1"],
        "none of deepfool has a setting 'epsilon'",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD.keys())
def test_bad_usage_is_one_clear_line(
    run: Command, tmp_path: Path, arguments: list[str], words: str
) -> None:
    empty, det = tmp_path / "empty", tmp_path / "det"
    empty.mkdir()
    names = {"{run}": str(trained_run()), "{empty}": str(empty)}
    for name, text in names.items():
        arguments = [each.replace(name, text) for each in arguments]
        words = words.replace(name, text)
    result = run("detect", "fit", *arguments, "-o", str(det))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr
    assert len([line for line in result.stderr.splitlines() if "rror: " in line]) == 1
    assert not det.exists()


def test_a_folder_that_is_in_use(run: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = run("detect", "fit", str(trained_run()), "-o", str(tmp_path))
    assert result.exit_code == 2
    assert "already exists: name another folder" in result.stderr
