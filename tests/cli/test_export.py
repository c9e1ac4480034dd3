"""``fxtransport export``: a plain checkpoint, which the model's library loads alone."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fxtransport import data
from fxtransport.models import build, resolve
from fxtransport.runs.load import load_run
from tests.cli.running import Command, in_process, state_of, trained
from tests.runs.photos import moved, photo_run
from tests.training.runs import rewrite_checkpoint


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an average of its weights; tests may not change it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = ["--method", "trgl", "--modules", "2", "--epochs", "2", "--lr", "0.1"]
    return trained(in_process, folder, *options, "--ema", "0.5")


@pytest.mark.slow
def test_timm_loads_it_alone_and_finds_the_same_accuracy(run: Command, tmp_path: Path) -> None:
    size = ["--image-size", "32", "--train-samples", "200", "--epochs", "2", "--device", "cpu"]
    arguments = ["train", "test_resnet", "--method", "lap", *size, "--lr", "0.1", "--no-verify"]
    assert run(*arguments, "--output", str(tmp_path / "run")).exit_code == 0
    file = tmp_path / "weights.safetensors"
    assert run("export", "--trust-files", str(tmp_path / "run"), "-o", str(file)).exit_code == 0
    with safe_open(file, "pt") as opened:
        said = opened.metadata()
    assert said["model"] == "timm:test_resnet"
    assert json.loads(said["options"]) == {"num_classes": 10}
    assert json.loads(said["input_size"]) == [3, 32, 32]

    model = timm.create_model("test_resnet", **json.loads(said["options"]))
    model.load_state_dict(load_file(file), strict=True)
    splits = data.load("digits", seed=0, batch_size=128, input_size=(3, 32, 32), train_samples=200)
    assert splits.validation is not None
    right = 0
    with torch.no_grad():
        for images, targets in splits.validation:
            right += int((model.eval()(images).argmax(1) == targets).sum())
    assert right / splits.validation.num_samples == float(said["best_validation_accuracy"])


def test_the_file_needs_nothing_of_this_library(run: Command, finished: Path) -> None:
    file = finished.parent / "plain.safetensors"
    assert run("export", "--trust-files", str(finished), "-o", str(file)).exit_code == 0
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom net import DigitsNet\n"
        "from safetensors.torch import load_file\n"
        "print(DigitsNet().load_state_dict(load_file(sys.argv[2]), strict=True))\n"
        "print(any(name.startswith('fxtransport') for name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(finished.parent), str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["<All keys matched successfully>", "False"]


@pytest.mark.parametrize(
    ("options", "source"),
    [(["--last"], "ema"), (["--last", "--ema"], "ema"), (["--last", "--no-ema"], "program")],
)
def test_last_and_averaged(
    run: Command, finished: Path, tmp_path: Path, options: list[str], source: str
) -> None:
    file = tmp_path / "weights.safetensors"
    assert run("export", "--trust-files", str(finished), "-o", str(file), *options).exit_code == 0
    expected = state_of(finished)[source]
    found = load_file(file)
    assert found.keys() == {name for name in expected if not name.startswith("auxiliary_heads.")}
    assert all(torch.equal(found[name], expected[name]) for name in found)
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["averaged"] == json.dumps(source == "ema")


def test_weights_that_a_model_shares_are_written_twice(
    run: Command, nets: Path, tmp_path: Path
) -> None:
    """A strict load wants every name, and safetensors keeps no memory twice."""
    options = ["--data", "moons", "--epochs", "1", "--device", "cpu"]
    result = run("train", f"{nets}:TiedPoints", *options, "--output", str(tmp_path / "run"))
    assert result.exit_code == 0, result.stderr
    weights = tmp_path / "weights.safetensors"
    assert run("export", "--trust-files", str(tmp_path / "run"), "-o", str(weights)).exit_code == 0
    model = build(resolve(f"{nets}:TiedPoints"))
    model.load_state_dict(load_file(weights), strict=True)


def test_nothing_is_overwritten_unless_told(run: Command, finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_text("precious")
    refused = run("export", "--trust-files", str(finished), "-o", str(file))
    assert refused.exit_code == 2
    assert f"{file} already exists: give another -o, or --force" in refused.stderr
    assert file.read_text() == "precious"
    assert run("export", "--trust-files", str(finished), "-o", str(file), "--force").exit_code == 0
    assert load_file(file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


BAD = {
    "no run": (["{run}/none", "-o", "{new}"], "does not hold a run of fxtransport train"),
    "no output": (["{run}"], "Missing option '--output'"),
    "unwritable": (["{run}", "-o", "{run}/config.toml/w"], "cannot write into"),
    "averages": (["{run}", "-o", "{new}", "--no-ema"], "give --last --no-ema"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD.keys())
def test_bad_usage_is_one_clear_line(
    run: Command, finished: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    new = str(tmp_path / "new")
    filled = (a.replace("{run}", str(finished)).replace("{new}", new) for a in arguments)
    result = run("export", "--trust-files", *filled)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len([line for line in result.stderr.splitlines() if "rror: " in line]) == 1
    assert not Path(new).exists()


def test_a_run_that_keeps_no_average(run: Command, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--epochs", "1")
    result = run("export", "--trust-files", str(folder), "-o", str(tmp_path / "w"), "--ema")
    assert result.exit_code == 2
    assert "has no average of its weights: it was trained without one" in result.stderr


def test_an_earlier_exit_is_a_model_of_its_own(run: Command, tmp_path: Path) -> None:
    """Without the run's images, and by nothing but torch."""
    file = tmp_path / "early.pt2"
    result = run("export", str(photo_run()), "-o", str(file), "--exit", "0")
    assert result.exit_code == 0, result.stderr
    said = {"fxtransport.json": ""}
    model = torch.export.load(file, extra_files=said).module()
    images = torch.randn(3, 3, 32, 32)
    found = load_run(photo_run(), exit=0)
    with torch.no_grad():
        expected = found.program.eval().parts[0](images).logits
        assert torch.allclose(model(images), expected, rtol=1e-4, atol=1e-5)
    measured = found.measured[0]
    assert json.loads(said["fxtransport.json"])["validation_accuracy"] == measured.accuracy
    first, second, *_ = result.stderr.splitlines()
    assert f"exit 0: {measured.accuracy:.2%} of {measured.samples} validation samples" in first
    assert re.fullmatch(
        r"the parts up to 0 with their head: [\d.]+ k of [\d.]+ k parameters, "
        r".*[\d.]+ times as fast\)?",
        second,
    )


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best exit is said to be the first; the weights are those of the last."""
    folder = tmp_path_factory.mktemp("early") / "run"
    options = ["--method", "vangl", "--modules", "2", "--epochs", "2", "--lr", "0.1"]
    trained(in_process, folder, *options)

    def claim(content: dict[str, object]) -> None:
        state = content["state"]
        assert isinstance(state, dict)
        best = next(pair[1] for pair in state["dict"] if pair[0] == "best")
        exit = next(pair[1] for pair in best["dict"] if pair[0] == "exit")
        exit["dict"] = [["part", 0], ["accuracy", 1.0], ["loss", 0.5], ["samples", 18]]

    rewrite_checkpoint(folder, claim)
    return folder


def test_the_plain_model_has_the_figures_of_its_own_head(
    run: Command, early: Path, tmp_path: Path
) -> None:
    file = tmp_path / "w"
    result = run("export", "--trust-files", str(early), "-o", str(file))
    assert result.exit_code == 0, result.stderr
    whole = load_run(early, trust_files=True).whole
    assert whole is not None
    with safe_open(file, "pt") as opened:
        said = opened.metadata()
    assert float(said["validation_accuracy"]) == whole.exit.accuracy
    first, second = result.stderr.splitlines()
    assert f"exit 1: {whole.exit.accuracy:.2%} of" in first
    assert second.startswith("the best exit is 0: 100.00% after")
    assert second.endswith("; --exit best exports it")


def test_the_best_exit_is_refused_where_the_format_cannot_hold_it(
    run: Command, early: Path, tmp_path: Path
) -> None:
    file = tmp_path / "w.safetensors"
    result = run("export", "--trust-files", str(early), "-o", str(file), "--exit", "best")
    assert result.exit_code == 2
    assert "which --format torch and --format onnx hold" in result.stderr
    assert not file.exists()


def test_timm_loads_a_folder_alone(run: Command, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    result = run("export", str(photo_run()), "-o", str(folder), "--format", "timm")
    assert result.exit_code == 0, result.stderr
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(3, 3, 32, 32)
    assert torch.equal(loaded(images), load_run(photo_run(), exit=-1).program.eval()(images))
    assert run("export", str(photo_run()), "-o", str(folder), "--format", "timm").exit_code == 2
    again = run("export", str(photo_run()), "-o", str(folder), "--format", "timm", "--force")
    assert again.exit_code == 0, again.stderr


@pytest.mark.slow
def test_onnx_is_checked_and_says_its_classes(run: Command, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "net.onnx"
    result = run("export", str(photo_run()), "-o", str(file))
    assert result.exit_code == 0, result.stderr
    session = onnxruntime.InferenceSession(file)
    images = torch.randn(5, 3, 32, 32)
    [logits] = session.run(["logits"], {"images": images.numpy()})
    expected = load_run(photo_run(), exit=-1).program.eval()(images).detach()
    assert torch.allclose(torch.from_numpy(logits), expected, rtol=1e-3, atol=1e-4)
    said = json.loads(session.get_modelmeta().custom_metadata_map["fxtransport"])
    assert said["class_names"] == sorted(path.name for path in moved().iterdir())
    assert said["preprocessing"]["mean"] == [0.485, 0.456, 0.406]


def test_a_head_that_has_not_been_trained_is_not_exported(run: Command, tmp_path: Path) -> None:
    options = ["--method", "vangl", "--modules", "2", "--schedule", "sequential", "--epochs", "1"]
    folder = trained(run, tmp_path / "run", *options)

    def forget(content: dict[str, object]) -> None:
        state = content["state"]
        assert isinstance(state, dict)
        exits = next(pair for pair in state["dict"] if pair[0] == "exits")
        del exits[1][1:]

    rewrite_checkpoint(folder, forget)
    result = run("export", "--trust-files", str(folder), "-o", str(tmp_path / "w"))
    assert result.exit_code == 2
    assert "that of part 1, has not been trained yet; give --exit 0" in result.stderr
