"""``fxtransport detect score``: a table, values for programs, and errors without a verdict."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fxtransport.detecting.judging import judge_files
from tests.cli.running import Command
from tests.detecting.small import (
    NET,
    detector,
    new_images,
    saved,
    trained_run,
    write_pictures,
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve digits of the test split."""
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, new_images().images[:12])
    return folder


def test_json_lines(run: Command, pictures: Path) -> None:
    result = run("detect", "score", str(saved()), str(pictures), "--json", "--fpr", "0.2")
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    expected = list(judge_files(detector(), [pictures], fpr=0.2))
    assert [tuple(each.values()) for each in found] == [
        (each.image, each.verdict, each.p_value, each.score, each.predicted) for each in expected
    ]
    assert list(found[0]) == ["image", "verdict", "p_value", "score", "predicted"]


def test_csv(run: Command, pictures: Path) -> None:
    result = run("detect", "score", str(saved()), str(pictures), "--csv", "--detector", "knn")
    rows = list(csv.DictReader(result.stdout.splitlines()))
    expected = list(judge_files(detector(), [pictures], "knn"))
    assert [row["image"] for row in rows] == [each.image for each in expected]
    assert [float(row["score"]) for row in rows] == [each.score for each in expected]


def test_the_table(run: Command, pictures: Path) -> None:
    result = run("detect", "score", str(saved()), str(pictures))
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["image", "verdict", "p-value", "score", "predicted"]
    for line, each in zip(lines, judge_files(detector(), [pictures]), strict=True):
        assert line.split() == [
            each.image,
            each.verdict,
            f"{each.p_value:.4f}",
            f"{each.score:.4g}",
            each.predicted,
        ]


def test_names_on_stdin(pictures: Path, tmp_path: Path, run: Command) -> None:
    odd = tmp_path / "a name\tof\tmine.png"
    shutil.copy(pictures / "03.png", odd)
    names = [str(pictures / "01.png"), "", str(odd), str(pictures)]
    command = ("detect", "score", str(saved()), "-", str(pictures / "02.png"), "--json")
    result = run(*command, stdin="\n".join(names) + "\n")
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line)["image"] for line in result.stdout.splitlines()]
    every = [str(path) for path in sorted(pictures.iterdir())]
    assert found == [names[0], str(odd), *every, str(pictures / "02.png")]
    for text, words in (("\n\n", "no name of an image on stdin"), ("no\0\n", "no such file")):
        refused = run(*command, stdin=text)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert words in refused.stderr


def test_images_that_cannot_be_judged(run: Command, pictures: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pictures, tmp_path / "pictures")
    (folder / "05.png").write_bytes(b"no image")
    array = new_images().images[:2].numpy().copy()
    array[1, 0, 0, 0] = np.nan
    np.save(folder / "99.npy", array)
    for form in ([], ["--csv"], ["--json"]):
        result = run("detect", "score", str(saved()), str(folder), *form)
        assert result.exit_code == 2
        assert result.stderr.count("error: ") == 2
        assert "05.png: cannot be read as an image" in result.stderr
        assert "99.npy[1]: holds NaN or infinities" in result.stderr
        verdicts = result.stdout.count("clean") + result.stdout.count("suspicious")
        assert verdicts == 12
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [set(each) for each in lines if "error" in each] == [{"image", "error"}] * 2


def test_the_model_of_a_run(run: Command, pictures: Path) -> None:
    own = run("detect", "score", str(saved()), str(pictures), "--json")
    again = run(
        *("detect", "score", str(saved()), str(pictures), "--json", "--model", str(trained_run()))
    )
    assert own.stdout == again.stdout


def test_a_model_that_was_trained_further_is_refused(
    run: Command, pictures: Path, tmp_path: Path
) -> None:
    options = ["--method", "e2e", "--epochs", "1", "--device", "cpu", "--no-verify"]
    other = tmp_path / "other"
    result = run("train", "nets:resnet_m", *NET, *options, "--output", str(other))
    assert result.exit_code == 0, result.stderr
    result = run("detect", "score", str(saved()), str(pictures), "--model", str(other))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "fitted for other weights of this model" in result.stderr


BAD = {
    "no folder": (["{none}", "{pictures}"], "{none} does not hold a detector"),
    "a run": (["{run}", "{pictures}"], "{run} does not hold a detector: it has no detection.json"),
    "one detector": (["{det}/knn", "{pictures}"], "it has no detection.json"),
    "no image": (["{det}", "{none}"], "{none}: there is no such file"),
    "empty folder": (["{det}", "{empty}"], "{empty} holds no image"),
    "no such detector": (["{det}", "{pictures}", "--detector", "energy"], "no detector 'energy'"),
    "rate": (["{det}", "{pictures}", "--fpr", "0"], "0.0 is not in the range 0<x<1"),
    "no number": (["{det}", "{pictures}", "--fpr", "nan"], "fpr is a rate between 0 and 1"),
    "too low a rate": (["{det}", "{pictures}", "--fpr", "1e-4"], "needs 9999 clean images"),
    "device": (["{det}", "{pictures}", "--device", "nosuch"], "the device 'nosuch' cannot be"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD.keys())
def test_bad_usage_is_one_clear_line(
    run: Command, pictures: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    names = {"{det}": saved(), "{run}": trained_run(), "{pictures}": pictures}
    for name, path in {**names, "{empty}": empty, "{none}": tmp_path / "none"}.items():
        arguments = [each.replace(name, str(path)) for each in arguments]
        words = words.replace(name, str(path))
    result = run("detect", "score", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr
    assert len([line for line in result.stderr.splitlines() if "rror: " in line]) == 1


def test_a_missing_package_is_named(
    run: Command, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KNN is pytorch-ood's."""
    monkeypatch.setitem(sys.modules, "pytorch_ood", None)
    monkeypatch.setitem(sys.modules, "pytorch_ood.detector", None)
    result = run("detect", "score", str(saved()), str(pictures))
    assert result.exit_code == 2
    assert "pip install 'fxtransport[detect]'" in result.stderr
    assert result.stdout == ""


def test_a_process_of_its_own(pictures: Path) -> None:
    code = "from fxtransport.cli.main import main; main()"
    command = [sys.executable, "-c", code, "detect", "score", str(saved()), str(pictures), "--csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 13
