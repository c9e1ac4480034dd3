"""``fxtransport train``: every method and schedule, the run's folder, signals, resuming."""

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fxtransport.runs.identity import read_run
from fxtransport.training.engine import Engine
from fxtransport.training.monitors import DegenerateFeaturesWarning
from tests.cli.running import SMALL, Command, in_process, last_weights, state_of, trained, write_net

FXTRANSPORT = [sys.executable, "-c", "from fxtransport.cli.main import main; main()"]

RUNS = {
    "lap": ["--method", "lap"],
    "lap in modules": ["--method", "lap", "--schedule", "parallel", "--order", "text"],
    "fixed": ["--method", "fixed", "--lambda0", "0.1", "--cost-p", "1.5"],
    "trgl": ["--method", "trgl", "--balance", "parameters"],
    "trgl in turn": ["--method", "trgl", "--schedule", "sequential", "--growth", "1"],
    "trgl in laps": ["--method", "trgl", "--schedule", "multi-lap", "--laps", "2"],
    "trgl with multipliers": ["--method", "trgl-multipliers", "--reduction", "sum"],
    "trgl by displacement": ["--method", "trgl", "--residue", "displacement", "--tau", "0.5"],
    "vangl": ["--method", "vangl", "--schedule", "sequential", "--cache-hidden"],
    "offloaded": [
        "--method",
        "vangl",
        "--schedule",
        "multi-lap",
        "--laps",
        "2",
        "--offload=frozen",
    ],
    "by blocks": ["--method", "vangl", "--blockwise"],
    "e2e": ["--method", "e2e", "--opt", "adamw", "--sched", "cosine", "--reverse"],
}
"""Each trains for an epoch, in a moment."""


def rows(run: Path) -> list[dict[str, str]]:
    """What ``metrics.csv`` holds."""
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("arguments", RUNS.values(), ids=RUNS.keys())
def test_every_method_and_schedule(run: Command, tmp_path: Path, arguments: list[str]) -> None:
    several = [] if {"lap", "fixed", "e2e"} & {*arguments} else ["--modules", "2"]
    if "parallel" in arguments:
        several = ["--modules", "2"]
    if "--blockwise" in arguments:
        several = []
    folder = trained(run, tmp_path / "run", "--epochs", "1", *several, *arguments)
    config = read_run(folder)
    found = rows(folder)
    method = config["objective.method"]
    modules = {"--blockwise": 4}.get(arguments[-1], 2 if several else 1)
    assert {int(row["part"]) for row in found} == set(range(modules))
    has_cost = method not in ("vangl", "e2e")
    trains = [row for row in found if row["loss"]]
    assert trains
    assert all(bool(row["transport"]) == has_cost for row in trains)
    assert all(bool(row["multiplier"]) == has_cost for row in trains)
    epochs = {"sequential": 2, "multi-lap": 4}.get(config["schedule.name"], 1)
    growth = config.get("schedule.growth") or 0
    assert int(found[-1]["epoch"]) == epochs + growth
    results = json.loads((folder / "results.json").read_text())
    assert results["test"]["samples"] == 360
    assert results["test"]["part"] == results["best"]["exit"]["part"]


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize(
    ("data", "tested"), [(["mnist5k"], 1000), (["patches"], 441), (["patches", "tile=64"], 107)]
)
def test_sets_that_packages_ship(
    run: Command, tmp_path: Path, data: list[str], tested: int, augmented: bool
) -> None:
    size = "3,64,64" if "tile=64" in data else "3,32,32"
    model = ["nets:resnet_m", "--model-arg", "blocks=1", "--model-arg", "channels=4"]
    options = [part for option in data[1:] for part in ("--data-arg", option)]
    options += ["--augment", "padding=2", "--augment", "hflip=0.5"] if augmented else []
    arguments = ["--data", data[0], "--input-size", size, "--method", "e2e", "-n", "1", *options]
    folder = tmp_path / "run"
    result = run("train", *model, *SMALL, *arguments, "--output", str(folder))
    assert result.exit_code == 0, result.stderr
    results = json.loads((folder / "results.json").read_text())
    assert results["test"]["samples"] == tested


def test_what_is_printed(run: Command, tmp_path: Path) -> None:
    arguments = [write_net(tmp_path), *SMALL, "--method", "trgl", "--modules", "2", "-n", "2"]
    result = run("train", *arguments, "--output", str(tmp_path / "run"))
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert lines[0].endswith("net.py:DigitsNet, trgl, parallel, 2 parts")
    assert "200 to train on, 144 for validation, 360 for the test" in lines[1]
    shape = (
        r"epoch (\d)/2  part (\d)  loss [\d.]+  transport [\de.-]+  τ (\d|0\.5)  "
        r"accuracy [\d.]+%  [\d.]+/s  [\d.]+ .iB"
    )
    held = "samples of 10 classes, held out of the set, a share of"
    assert lines[2].startswith("  train: 200 samples of 10 classes, from the set, without what is")
    assert lines[3] == f"  validation: 144 {held} 0.1 of each class"
    assert lines[4] == f"  test: 360 {held} 0.2 of each class"
    found = [re.fullmatch(shape, line) for line in lines[5:]]
    assert [m and m.groups() for m in found] == [
        ("1", "0", "0.5"),
        ("1", "1", "1"),
        ("2", "0", "0.5"),
        ("2", "1", "1"),
    ]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    best, test = results["best"], results["test"]
    words = " ".join(result.stdout.split())
    assert f"best exit part {best['exit']['part']} after {best['epoch']} epoch" in words
    assert f"test {test['accuracy']:.2%} of 360 samples, at part {test['part']}" in words
    for name in ("config.toml", "metrics.csv", "results.json", "checkpoint.json"):
        assert name in result.stdout
        assert (tmp_path / "run" / name).is_file()


def test_the_configuration_makes_the_same_run(run: Command, tmp_path: Path) -> None:
    options = ["--method", "trgl", "--modules", "2", "--epochs", "1", "--augment", "padding=1"]
    first = trained(run, tmp_path / "first", *options, "--seed", "3")
    second = tmp_path / "second"
    again = ["--config", str(first / "config.toml"), "--trust-files"]
    result = run("train", *again, "--output", str(second))
    assert result.exit_code == 0, result.stderr
    assert (first / "config.toml").read_text() == (second / "config.toml").read_text()
    assert same(last_weights(first), last_weights(second))
    other = tmp_path / "other"
    changed = [*again, "--seed", "4", "--output", str(other)]
    assert run("train", *changed, "--set", "optimizer.lr=0.5").exit_code == 0
    assert not same(last_weights(first), last_weights(other))
    assert tomllib.loads((other / "config.toml").read_text())["optimizer"]["lr"] == 0.5


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether all tensors are the same, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


LONG = ["--method", "trgl", "--modules", "2", "--epochs", "16", "--batch-size", "20"]
TIMES = ("samples_per_second", "peak_memory", "elapsed")


def measured(run: Path) -> list[dict[str, str]]:
    """The numbers of ``metrics.csv`` that are the same on every machine."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows(run)]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long run that nothing interrupts."""
    return trained(in_process, tmp_path_factory.mktemp("straight") / "run", *LONG, "--ema", "0.9")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_run_that_was_interrupted_goes_on(
    run: Command, tmp_path: Path, straight: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    arguments = ["train", write_net(tmp_path), *SMALL, *LONG, "--ema", "0.9", "-o", str(folder)]
    # sums come out the same bit for bit only in as many threads
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [*FXTRANSPORT, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("epoch 2/16  part 1"):
            assert process.poll() is None
        process.send_signal(number)
        lines = process.stderr.read().splitlines()
    assert process.returncode == 128 + number
    assert lines[-1].startswith(f"{number.name} ended the run after step ")
    assert "error" not in "".join(lines)
    assert lines[-1].endswith(f"go on with: fxtransport train --resume {folder} --trust-files")
    assert "Traceback" not in "".join(lines)
    position = state_of(folder)["position"]
    assert 2 <= position["epochs"] < 16

    resumed = run("train", "--resume", str(folder), "--trust-files")
    assert resumed.exit_code == 0, resumed.stderr
    assert f"goes on after epoch {position['epochs']} of 16" in resumed.stderr
    assert [int(row["epoch"]) for row in rows(folder)] == [n for n in range(1, 17) for _ in "ab"]
    assert same(last_weights(folder), last_weights(straight))
    assert measured(folder) == measured(straight)


def test_a_finished_run_is_not_trained_again(run: Command, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--epochs", "1")
    before = last_weights(folder), rows(folder)
    result = run("train", "--resume", str(folder), "--trust-files")
    assert result.exit_code == 0
    assert "the run is finished" in result.stderr
    assert same(before[0], last_weights(folder))
    assert before[1] == rows(folder)


def test_what_ended_before_its_first_checkpoint_begins_again(run: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    random = ["--method", "vangl", "--modules", "2", "--cache-hidden", "--augment", "padding=1"]
    arguments = [write_net(tmp_path), *SMALL, "-n", "1", "--output", str(folder)]
    refused = run("train", *arguments, *random)
    assert refused.exit_code == 2
    assert "cache_hidden cannot be used with random augmentation" in refused.stderr
    assert run("train", *arguments).exit_code == 0
    assert read_run(folder)["objective.method"] == "lap"


def test_a_run_without_a_checkpoint_begins(run: Command, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--epochs", "1")
    expected = last_weights(folder)
    for path in folder.iterdir():
        if path.name != "config.toml":
            path.unlink()
    assert run("train", "--resume", str(folder), "--trust-files").exit_code == 0
    assert same(expected, last_weights(folder))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, whose folder tests may not change."""
    return trained(in_process, tmp_path_factory.mktemp("trained") / "run", "--epochs", "1")


BAD = {
    "nothing": ([], "Missing option '--output RUN', or '--resume RUN'"),
    "no model": (["--output", "{new}"], "Missing argument 'MODEL', or model.name"),
    "no output": (["resnet18"], "Missing option '--output RUN'"),
    "output exists": (["resnet18", "-o", "{run}"], "already exists: give another --output"),
    "a file": (["resnet18", "-o", "{run}/config.toml"], "already exists"),
    "unwritable": (["{net}", "-o", "{run}/config.toml/a"], "cannot write into"),
    "misspelt": (["resnet81", "-o", "{new}"], "did you mean timm:resnet18"),
    "no set": (["{net}", "--data", "digit", "-o", "{new}"], "digit"),
    "data of all": (
        ["{net}", "--data-arg", "seed=1", "-o", "{new}"],
        "seed is not an option of one set: --data-arg cannot set it",
    ),
    "data of none": (["{net}", "--data-arg", "x=1", "-o", "{new}"], "digits has no option 'x'"),
    "points": (["{net}", "--data", "moons", "-o", "{new}"], "points of the plane"),
    "no key": (["{net}", "--set", "a.b=1", "-o", "{new}"], "there is no key 'a.b'"),
    "no pair": (["{net}", "--set", "ab", "-o", "{new}"], "write KEY=VALUE, not 'ab'"),
    "no meaning": (["{net}", "--tau", "1", "-o", "{new}"], "--tau has no meaning"),
    "nothing to offload": (
        ["{net}", "--method", "trgl", "--offload", "frozen", "-o", "{new}"],
        "--offload has no meaning where schedule.name is parallel: it goes with sequential",
    ),
    "nothing to replay": (
        ["{net}", "--cuda-graphs", "-o", "{new}"],
        "--cuda-graphs has no meaning where trainer.compile is not set: it goes with inductor",
    ),
    "no GPU to replay on": (
        ["{net}", "--compile", "--cuda-graphs", "--device", "cpu", "-o", "{new}"],
        "CUDA graphs need a CUDA device, and this run trains on cpu",
    ),
    "bad number": (["{net}", "--lr", "x", "-o", "{new}"], "'x' is not a valid float"),
    "both": (["{net}", "--equal-depth", "--equal-weight"], "contradict one another"),
    "classes": (
        ["{net}", "--model-arg", "classes=5", "-o", "{new}"],
        "returns [(5,)], and digits has 10 classes",
    ),
    "no argument": (["{net}", "--model-arg", "x=5", "-o", "{new}"], "argument 'x'"),
    "not of timm": (
        ["test_resnet", "--model-arg", "x=5", "-o", "{new}"],
        "timm:test_resnet cannot be built with x=5: ",
    ),
    "no optimizer": (["{net}", "--opt", "x", "-o", "{new}"], "timm cannot make the optimizer 'x'"),
    "no device": (["{net}", "--device", "x", "-o", "{new}"], "the device 'x' cannot be used"),
    "too many": (
        ["{net}", "--schedule", "parallel", "--modules", "9", "-o", "{new}"],
        "cannot cut DigitsNet into 9 parts",
    ),
    "no run": (
        ["--resume", "{new}"],
        "does not hold a run of fxtransport train: it has no config.toml",
    ),
    "resume and output": (
        ["--resume", "{run}", "--trust-files", "-o", "{new}"],
        "leave out --output",
    ),
    "resumes a file": (
        ["--resume", "{run}"],
        "{run}/config.toml names a model in a Python file, {file}, and would run it: give "
        "--trust-files if you trust that file",
    ),
    "configures a file": (
        ["--config", "{run}/config.toml", "-o", "{new}"],
        "{run}/config.toml names a model in a Python file, {file}, and would run it",
    ),
    "other numbers": (
        ["--resume", "{run}", "--drop-last"],
        "--drop-last True would change the run in",
    ),
    "other model": (["resnet18", "--resume", "{run}"], "model.name timm:resnet18 would change"),
    "no file": (["--config", "{new}", "-o", "{new}"], "cannot read {new}: No such file"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD.keys())
def test_bad_usage_is_one_clear_line(
    run: Command, finished: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    places = {"{run}": finished, "{new}": tmp_path / "new", "{net}": write_net(tmp_path)}
    places["{file}"] = finished.parent / "net.py"

    def filled(text: str) -> str:
        for name, place in places.items():
            text = text.replace(name, str(place))
        return text

    result = run("train", *map(filled, arguments))
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    assert filled(words) in result.stderr
    assert "Traceback" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if "rror: " in line]) == 1
    assert not (tmp_path / "new").exists()


def test_a_loss_that_is_not_a_number(run: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = [write_net(tmp_path), *SMALL, "--lr", "1e30", "--output", str(folder)]
    result = run("train", *arguments)
    assert result.exit_code == 1
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "the loss of part 0 is" in line
    assert str(folder / "checkpoint.json") in line


def test_a_damaged_checkpoint(run: Command, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--epochs", "1")
    [weights] = folder.glob("last-*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    result = run("train", "--resume", str(folder), "--trust-files")
    assert result.exit_code == 2
    assert f"{weights} is damaged" in result.stderr


def test_a_checkpoint_of_another_run(run: Command, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--epochs", "1")
    other = trained(run, tmp_path / "other", "--epochs", "2")
    (folder / "config.toml").write_text((other / "config.toml").read_text())
    result = run("train", "--resume", str(folder), "--trust-files")
    assert result.exit_code == 2
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "changed after the run began: schedule.epochs is 2, and was 1; set it back" in line


def test_a_full_disk(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained(run, tmp_path / "run", "--epochs", "2")
    before = last_weights(folder)
    (folder / "results.json").unlink()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.replace", full)
    new = run("train", write_net(tmp_path), *SMALL, "--output", str(tmp_path / "new"))
    old = run("train", "--resume", str(folder), "--trust-files")
    for result, place in ((new, tmp_path / "new"), (old, folder)):
        assert result.exit_code == 2
        [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert line.startswith(f"error: cannot write into {place}: No space left on device")
    assert same(before, last_weights(folder))


def test_what_a_model_raises_while_it_trains(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the shapes do not fit")

    monkeypatch.setattr(Engine, "step", broken)
    folder = tmp_path / "run"
    result = run("train", write_net(tmp_path), *SMALL, "--output", str(folder))
    assert result.exit_code == 1
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line == (
        "error: training failed: RuntimeError: the shapes do not fit; a run that is resumed comes "
        "to the same step again"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        # 720 points leave a last batch of one, of which there is no variance
        (["--batch-size", "719"], "error: the last batch is a single sample, which cannot be"),
        (["--batch-size", "1"], "error: a batch is a single sample, which cannot be"),
        (["--batch-size", "3", "--accumulate", "2"], "error: a piece of the last batch is a"),
    ],
)
def test_a_batch_of_one_is_seen_before_the_first_step(
    run: Command, nets: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    folder = str(tmp_path / "run")
    data = ["--data", "moons", "--device", "cpu", "--epochs", "1", "--method", "e2e"]
    result = run("train", f"{nets}:Points", *data, *options, "--output", folder)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "epoch" not in result.stderr
    if "719" in options:
        assert "leave it out with --drop-last, or choose another batch size" in result.stderr
        options.append("--drop-last")
        again = run("train", f"{nets}:Points", *data, *options, "--output", folder)
        assert again.exit_code == 0, again.stderr


def test_tensorboard_that_is_not_installed(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    folder = str(tmp_path / "run")
    result = run("train", write_net(tmp_path), *SMALL, "--tensorboard", "--output", folder)
    assert result.exit_code == 2
    assert "TensorBoard is not installed: pip install 'fxtransport[tensorboard]'" in result.stderr


def test_a_model_that_cannot_be_traced(run: Command, nets: Path, tmp_path: Path) -> None:
    size = ["--image-size", "8", "--output", str(tmp_path / "run")]
    result = run("train", f"{nets}:Decides", *size)
    assert result.exit_code == 3
    assert "data-dependent control flow" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["test_resnet", "--image-size", "32", "--method", "lap", "--init", "orthogonal"],
        ["test_vit", "--image-size", "32", "--method", "trgl", "--schedule", "multi-lap"],
        ["nets:circles_resnet", "--data", "circles", "--method", "trgl", "--modules", "3"],
        ["nets:cifar_resnet", "--channels-last", "--deterministic", "--accumulate", "2"],
        ["torchvision:resnet18", "--image-size", "32", "--method", "vangl", "--amp", "bf16"],
    ],
    ids=["timm resnet", "timm vit", "circles", "cifar", "torchvision"],
)
def test_models_of_the_libraries(run: Command, tmp_path: Path, arguments: list[str]) -> None:
    size = ["--train-samples", "60", "--batch-size", "20", "--epochs", "1", "--device", "cpu"]
    laps = ["--laps", "2", "--modules", "2"] if "multi-lap" in arguments else []
    result = run("train", *arguments, *size, *laps, "--output", str(tmp_path / "run"))
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "run" / "results.json").is_file()


@pytest.mark.parametrize("method", [["e2e"], ["trgl", "--modules", "2"]])
def test_a_monitor_adds_columns_and_changes_nothing(
    run: Command, tmp_path: Path, method: list[str]
) -> None:
    options = ["--method", *method, "--epochs", "2"]
    plain = trained(run, tmp_path / "plain", *options)
    # it has 8 features, and 64 samples are looked at
    with pytest.warns(DegenerateFeaturesWarning, match="the features of the 64 samples"):
        watched = trained(run, tmp_path / "watched", *options, "--monitor", "polyak-lojasiewicz")
    weights, same = last_weights(plain), last_weights(watched)
    assert weights.keys() == same.keys()
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert {*rows(watched)[0]} - {*rows(plain)[0]} == {"pl_eigenvalue", "pl_ratio", "pl_bound"}
    for row in rows(watched):
        assert float(row["pl_ratio"]) > 0
        assert float(row["pl_eigenvalue"]) > -1e-6


def test_a_monitor_that_cannot_measure_fails_before_the_first_step(
    run: Command, tmp_path: Path
) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    arguments = ["train", f"{file}:net", *SMALL, "--image-size", "1,8,8", "--epochs", "1"]
    arguments += ["--method", "e2e", "--output", str(tmp_path / "run")]
    result = run(*arguments, "--monitor", "polyak-lojasiewicz")
    assert result.exit_code == 2, result.stderr
    assert "needs logits, and residual blocks" in result.stderr
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_names_of_timm_and_what_they_mean(run: Command, tmp_path: Path) -> None:
    names = ["--amp", "--clip-grad", "1", "--smoothing", "0.1", "--cutmix", "1.0", "-n", "1"]
    folder = trained(run, tmp_path / "run", "--method", "e2e", *names)
    config = read_run(folder)
    assert config["trainer.amp"] == "bf16"
    assert config["data.mixup"] == {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}
    assert run("train", "--resume", str(folder), "--trust-files", "--amp").exit_code == 0
    other = ["--config", str(folder / "config.toml"), "--trust-files", "--mixup", "0.2"]
    result = run("train", *other, "-o", str(tmp_path / "other"))
    assert result.exit_code == 0, result.stderr
    assert read_run(tmp_path / "other")["data.mixup"] == {"mixup_alpha": 0.2, "cutmix_alpha": 1.0}


def test_a_run_begins_with_another_and_trains_its_head(run: Command, tmp_path: Path) -> None:
    first = trained(run, tmp_path / "first", "--epochs", "1", "--method", "e2e")
    start = ["--initial-checkpoint", str(first), "--freeze", "stem", "--freeze", "blocks.*"]
    arguments = [write_net(tmp_path), *SMALL, "--method", "e2e", "--epochs", "2", *start]
    result = run("train", *arguments, "-o", str(tmp_path / "second"))
    assert result.exit_code == 0, result.stderr
    assert "begins with 32 of 32 tensors from " in result.stderr
    [best] = first.glob("best-*.safetensors")
    before, after = load_file(best), last_weights(tmp_path / "second")
    changed = {n for n in before if not torch.equal(before[n], after[f"program.{n}"])}
    assert changed == {"head.weight", "head.bias"}
    resumed = run("train", "--resume", str(tmp_path / "second"), "--trust-files")
    assert resumed.exit_code == 0, resumed.stderr
    both = run("train", *arguments, "-o", str(tmp_path / "third"), "--set", "transfer.start=true")
    assert "--initial-checkpoint both say with which weights to begin" in both.stderr


def test_rare_classes_early_ends_and_steps(run: Command, tmp_path: Path) -> None:
    rare = ["--class-weights", "balanced", "--sampler", "balanced", "--patience", "1", "--lr", "0"]
    folder = trained(run, tmp_path / "run", "--method", "e2e", "--steps", "36", *rare)
    config = read_run(folder)
    assert config["schedule.epochs"] == 9
    assert config["objective.class_weights"].count(",") == 9
    results = json.loads((folder / "results.json").read_text())
    assert results["stopped"]
    assert results["position"]["epochs"] == results["best"]["epoch"] + 1
    resumed = run("train", "--resume", str(folder), "--trust-files")
    assert resumed.exit_code == 0, resumed.stderr
    assert "the run is finished" in resumed.stderr
    assert f"stopped    early, after {results['position']['epochs']} epochs" in resumed.stdout
    again = ["--config", str(folder / "config.toml"), "--trust-files", "--images", "100"]
    assert run("train", *again, "-o", str(tmp_path / "again")).exit_code == 0
    assert read_run(tmp_path / "again")["schedule.epochs"] == 1
