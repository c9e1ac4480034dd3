"""``fxtransport transfer``: the three uses, what is refused, and that none is plain training."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.cli.running import SMALL, Command, in_process, last_weights, trained, write_net

FXTRANSPORT = [sys.executable, "-c", "from fxtransport.cli.main import main; main()"]
STUDENT = ("nets:resnet_m", "--image-size", "8", "--model-arg", "blocks=2")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the small network."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    return trained(in_process, folder, "--method", "e2e", "--epochs", "2", "--lr", "0.05")


def transferred(run: Command, output: Path, teacher: Path, *arguments: str) -> Path:
    """A run of the network that writes itself into a folder, near to a teacher."""
    output.parent.mkdir(parents=True, exist_ok=True)
    given = ["--teacher", str(teacher), "--trust-files", "--output", str(output)]
    result = run("transfer", write_net(output.parent), *SMALL, *given, *arguments)
    assert result.exit_code == 0, result.stderr
    return output


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same(one: Path, other: Path) -> bool:
    """Whether two runs have the same tensors, bit for bit."""
    first, second = last_weights(one), last_weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_none_is_plain_training(run: Command, tmp_path: Path, teacher: Path) -> None:
    options = ("--epochs", "2", "--method", "lap")
    plain = trained(run, tmp_path / "plain" / "run", *options)
    none = transferred(run, tmp_path / "none" / "run", teacher, *options, "--regularizer", "none")
    assert same(plain, none)
    assert [*rows(plain)[0]] == [*rows(none)[0]]
    other = transferred(run, tmp_path / "kd" / "run", teacher, *options, "--regularizer", "kd:0.1")
    assert not same(plain, other)


def test_what_is_told_and_written(run: Command, tmp_path: Path, teacher: Path) -> None:
    options = ("--method", "trgl", "--modules", "2", "--epochs", "1", "--amp", "bf16")
    net = write_net(tmp_path)
    arguments = [net, *SMALL, *options, "--teacher", str(teacher), "--trust-files"]
    regularizer = ("--regularizer", "ot:0.1,kd:0.5")
    result = run("transfer", *arguments, *regularizer, "--output", str(tmp_path / "run"))
    assert result.exit_code == 0, result.stderr
    # after the model, the data, and where its splits come from
    lines = result.stderr.splitlines()[5:]
    assert lines[0] == f"{teacher} teaches {net}"
    assert lines[1] == "  part 0: blocks.1 8×8×8 with blocks.1 8×8×8"
    assert lines[2] == "  part 1: penultimate 8 with penultimate 8"
    assert [line.split()[1] for line in lines[3:]] == ["1/1", "1/1"]
    assert all("  ot " in line and "  kd " in line for line in lines[3:])
    for row in rows(tmp_path / "run"):
        assert float(row["ot"]) > 0
        assert float(row["kd"]) > 0
        assert row["transport"]
    assert run("evaluate", str(tmp_path / "run"), "--trust-files").exit_code == 0
    exported = tmp_path / "weights.safetensors"
    result = run("export", str(tmp_path / "run"), "--trust-files", "--output", str(exported))
    assert result.exit_code == 0, result.stderr
    again = run(
        "transfer", *arguments[:-3], "--teacher", str(exported), *regularizer, "--trust-files",
        "--output", str(tmp_path / "next"),
    )  # fmt: skip
    assert again.exit_code == 0, again.stderr


def test_a_budget_is_met_beside_the_teacher(run: Command, tmp_path: Path, teacher: Path) -> None:
    net, terms = write_net(tmp_path), ("--regularizer", "ot:0.1,kd:0.5", "--method", "trgl")
    given = ["transfer", net, *SMALL, *terms, "--teacher", str(teacher), "--trust-files"]
    output = ["--epochs", "1", "--output", str(tmp_path / "run")]
    refused = run(*given, *output, "--fit", "10KiB")
    assert refused.exit_code == 2, refused.stderr
    assert "does not fit into 10.0 KiB" in refused.stderr
    found = re.search(r"a budget of ([\d.]+) (\wiB) is enough", refused.stderr)
    assert found is not None
    enough = float(found[1])
    less = run(*given, *output, "--fit", f"{0.98 * enough:.3f}{found[2]}")
    assert less.exit_code == 2, less.stderr
    result = run(*given, *output, "--fit", f"{enough}{found[2]}")
    assert result.exit_code == 0, result.stderr
    chosen = re.search(r"batches of 50 in (\d) parts", result.stderr)
    assert chosen is not None
    assert [float(row["kd"]) > 0 for row in rows(tmp_path / "run")] == [True] * int(chosen[1])


def test_fine_tuning_begins_at_the_teacher(run: Command, tmp_path: Path, teacher: Path) -> None:
    options = ("--method", "e2e", "--epochs", "1", "--lr", "0", "--start-from-teacher")
    folder = transferred(
        run, tmp_path / "run", teacher, *options, "--regularizer", "l2-sp:1,identity:0.1,ot:0.1"
    )
    own, other = last_weights(folder), last_weights(teacher)
    weights = [key for key in own if key.endswith("stem.weight") and "program" in key]
    assert weights or "program/stem.weight" in own or any("stem.weight" in k for k in own)
    for key in weights:
        assert torch.equal(own[key], other[key])
    [row] = rows(folder)
    assert float(row["l2-sp"]) == 0.0


def test_the_same_run_from_its_configuration(run: Command, tmp_path: Path, teacher: Path) -> None:
    options = ("--method", "e2e", "--epochs", "1", "--regularizer", "ot:0.1", "--layers", "auto")
    first = transferred(run, tmp_path / "first" / "run", teacher, *options, "--pool", "4")
    given = ["--config", str(first / "config.toml"), "--trust-files"]
    for command in ("train", "transfer"):
        result = run(command, *given, "--output", str(tmp_path / command))
        assert result.exit_code == 0, result.stderr
        assert same(first, tmp_path / command)
    changed = [*given, "--set", "transfer.regularizer.kd=0.5", "--output", str(tmp_path / "both")]
    assert run("train", *changed).exit_code == 0
    assert {"ot", "kd"} <= {*rows(tmp_path / "both")[0]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--regularizer", "ot:1"], "Missing option '--teacher'"),
        (["--teacher", "TEACHER"], "Missing option '--regularizer'"),
        (
            ["--teacher", "TEACHER", "--regularizer", "ott:1"],
            "error: --regularizer: there is no regularizer 'ott': did you mean ot?",
        ),
        (
            ["--teacher", "TEACHER", "--regularizer", "ot:1", "--layers", "blocks.0"],
            "error: --layers: layers are penultimate, auto, or STUDENT=TEACHER",
        ),
        (
            ["--teacher", "TEACHER", "--regularizer", "ot:1", "--layers", "blocks.0=body"],
            "cannot tap 'body'",
        ),
        (
            ["--teacher", "TEACHER", "--regularizer", "identity:1"],
            "penultimate of the student has 100 neurons and penultimate of the teacher 8; take ot",
        ),
        (["--teacher", "absent.pth", "--regularizer", "kd:1"], "absent.pth; give a file of"),
        (["--teacher", "nets:resnet_m", "--regularizer", "kd:1"], "has no weights to teach with"),
        (
            ["--teacher", "TEACHER", "--regularizer", "ot:1", "--augment", "padding=1",
             "--teacher-cache", "CACHE"],
            "cannot be used with random augmentation",
        ),
        (
            ["--teacher", "TEACHER", "--regularizer", "ot:1", "--start-from-teacher"],
            "the student has no weights of the names and shapes of",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(
    run: Command, tmp_path: Path, teacher: Path, arguments: list[str], message: str
) -> None:
    names = {"TEACHER": str(teacher), "CACHE": str(tmp_path / "cache")}
    given = [names.get(argument, argument) for argument in arguments]
    output = ["--output", str(tmp_path / "run"), "--trust-files"]
    result = run("transfer", *STUDENT, *SMALL, *given, *output)
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_teacher_whose_run_names_a_python_file_must_be_trusted(
    run: Command, tmp_path: Path, teacher: Path
) -> None:
    given = ["--teacher", str(teacher), "--regularizer", "kd:1", "--output", str(tmp_path / "run")]
    result = run("transfer", *STUDENT, *SMALL, *given)
    assert result.exit_code == 2
    assert "--trust-files if you trust that file" in result.stderr


@pytest.mark.slow
def test_from_end_to_end(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher, a smaller student near to it that is interrupted and goes on, and its exits."""
    monkeypatch.chdir(tmp_path)
    wide = [*STUDENT, "--no-verify", "--model-arg", "channels=8", "--method", "e2e"]
    wide += ["--lr", "0.05", "--epochs", "2"]
    assert run("train", *wide, "--output", "teacher").exit_code == 0
    narrow = [*STUDENT, "--no-verify", "--model-arg", "channels=4", "--method", "lap"]
    narrow += ["--lr", "0.05", "--epochs", "6", "--teacher", "teacher"]
    narrow += ["--regularizer", "ot:0.05,kd:0.5", "--teacher-cache", "cache"]
    result = run("transfer", *narrow, "--output", "whole")
    assert result.exit_code == 0, result.stderr
    # sums come out the same bit for bit only in as many threads
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([*FXTRANSPORT, "transfer", *narrow, "-o", "ended"], env=env)
    metrics = tmp_path / "ended" / "metrics.csv"
    deadline = time.monotonic() + 280
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=280) == 128 + signal.SIGTERM
    assert len(rows(Path("ended"))) < 6
    result = run("transfer", "--resume", "ended")
    assert result.exit_code == 0, result.stderr
    assert same(Path("whole"), Path("ended"))
    assert len([*Path("cache").iterdir()]) == 1
    results = json.loads(Path("ended/results.json").read_text())
    assert results["test"]["accuracy"] > 0.7
    result = run("evaluate", "ended", "--split", "test", "--json")
    assert json.loads(result.stdout)["exits"][0]["accuracy"] == results["test"]["accuracy"]
    # another teacher under the same name
    assert run("train", *wide, "--seed", "1", "--output", "other").exit_code == 0
    Path("teacher").rename("first")
    Path("other").rename("teacher")
    result = run("transfer", "--resume", "ended")
    assert result.exit_code == 2
    assert "another teacher" in result.stderr
