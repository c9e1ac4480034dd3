"""``fxtransport sweep``: runs in processes of their own, that go on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fxtransport.runs.identity import read_run
from tests.cli.running import SMALL, Command, last_weights, write_net

SWEEP = [sys.executable, "-c", "from fxtransport.cli.main import main; main()", "sweep"]


@pytest.mark.slow
def test_runs_like_any_other(run: Command, tmp_path: Path) -> None:
    net, folder = write_net(tmp_path), tmp_path / "runs"
    arguments = [
        "sweep",
        net,
        *SMALL,
        "-n",
        "1",
        "--method",
        "e2e,vangl",
        "-k",
        "2",
        "-o",
        str(folder),
    ]
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[:3] for row in rows[1:]] == [["e2e", "–", "1"], ["vangl", "2", "1"]]
    assert read_run(folder / "vangl-k2")["program.modules"] == 2
    assert run("evaluate", str(folder / "e2e"), "--trust-files").exit_code == 0
    before = (folder / "e2e" / "checkpoint.json").read_bytes()

    again = run(*arguments, "--json")
    found = [json.loads(line) for line in again.stdout.splitlines()]
    assert [each["run"] for each in found] == ["e2e", "vangl-k2"]
    assert found[1]["varied"] == {"objective.method": "vangl", "program.modules": 2}
    assert all(0 < each["test_accuracy"] < 1 and each["peak_memory"] > 0 for each in found)
    assert "e2e: finished before" in again.stderr
    assert (folder / "e2e" / "checkpoint.json").read_bytes() == before


@pytest.mark.slow
def test_what_was_interrupted_goes_on(run: Command, tmp_path: Path) -> None:
    long = [*SMALL, "--method", "e2e", "-n", "12", "--batch-size", "20", "--seed", "0,1"]
    folder = tmp_path / "runs"
    command = [*SWEEP, write_net(tmp_path), *long, "-o", str(folder)]
    # sums come out the same bit for bit only in as many threads
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("epoch 2/12"):
            assert process.poll() is None
        os.kill(process.pid, signal.SIGTERM)
        said = process.stderr.read()
    assert process.returncode == 143
    assert said.endswith("the sweep was interrupted: the same command goes on with it\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert "goes on after epoch" in done.stderr
    alone = run("train", write_net(tmp_path), *long[:-2], "-o", str(tmp_path / "alone"))
    assert alone.exit_code == 0
    expected, found = last_weights(tmp_path / "alone"), last_weights(folder / "e2e-s0")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    assert (folder / "e2e-s1" / "results.json").is_file()


@pytest.mark.slow
def test_a_run_that_fails_ends_no_other(run: Command, tmp_path: Path) -> None:
    arguments = [write_net(tmp_path), *SMALL, "-n", "1", "--method", "vangl", "-k", "9,2"]
    result = run("sweep", *arguments, "-o", str(tmp_path / "runs"))
    assert result.exit_code == 1
    assert "failed: vangl-k9; the same command tries again" in result.stderr
    assert (tmp_path / "runs" / "vangl-k2" / "results.json").is_file()


BAD = {
    "no model": ([], "Missing argument 'MODEL'"),
    "twice": (["resnet18", "--vary", "trainer.seed=1", "--seed", "2"], "trainer.seed varies twice"),
    "no value": (["resnet18", "--vary", "optimizer.lr"], "write --vary SECTION.KEY=V,V"),
    "no key": (["resnet18", "--vary", "optimizer.rate=1"], "there is no key 'optimizer.rate'"),
    "no number": (
        ["resnet18", "--method", "trgl", "-k", "two"],
        "--modules is a whole number, not 'two'",
    ),
    "no parts": (["resnet18", "--modules", "2,4"], "--modules has no meaning where all runs train"),
    "no meaning": (["resnet18", "--method", "lap", "--tau", "1"], "--tau has no meaning"),
    "no picture": (["resnet18", "--picture", "a.txt"], "says no format of pictures"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD.keys())
def test_what_is_refused_before_anything_is_trained(
    run: Command, tmp_path: Path, arguments: list[str], words: str
) -> None:
    result = run("sweep", *arguments, "-o", str(tmp_path / "runs"))
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "runs").exists()
