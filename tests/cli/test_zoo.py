"""``fxtransport zoo``: its options, its tables, its file."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import fxtransport.zoo.sweep
from fxtransport.zoo.record import Record, Refusal
from tests.cli.running import Command

FXTRANSPORT = [sys.executable, "-c", "from fxtransport.cli.main import main; main()"]


def entries(file: Path) -> list[dict[str, Any]]:
    """The records of a file, after its header."""
    return [json.loads(line) for line in file.read_text().splitlines()][1:]


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the sweep by one that computes nothing, and collect the names that it is given."""
    given: list[str] = []

    def sweep(names: list[str], *_: object, **__: object) -> Generator[Record, None, None]:
        for name in names:
            given.append(name)
            no = Refusal("TraceError", "raised KeyError", "…") if "raft" in name else None
            yield Record(name, name.rstrip("0123456789"), 1.0, refusal=no)

    monkeypatch.setattr(fxtransport.zoo.sweep, "sweep", sweep)
    return given


def test_the_tables(run: Command, swept: list[str]) -> None:
    result = run("zoo", "resnet?*", "--source", "torchvision")
    assert result.exit_code == 0
    assert len(swept) == 5
    assert "torchvision:resnet  " in result.stdout
    assert "refused because" not in result.stdout
    assert result.stdout.rstrip().splitlines()[-1].split()[:5] == ["total", "5", "5", "–", "–"]
    refused = run("zoo", "raft", "--source", "torchvision")
    assert refused.exit_code == 0
    last = refused.stdout.rstrip().splitlines()[-1]
    assert "TraceError: raised KeyError" in last
    assert last.split()[3:] == ["2", "torchvision:raft_large,", "torchvision:raft_small"]


def test_json_is_one_object_a_model(run: Command, swept: list[str]) -> None:
    lines = run("zoo", "raft", "--source", "torchvision", "--json").stdout.splitlines()
    assert [json.loads(line)["model"] for line in lines] == swept


def test_a_line_every_fifty_models(run: Command, swept: list[str]) -> None:
    result = run("zoo", "--source", "torchvision")
    assert result.stderr.splitlines()[0] == f"50 of {len(swept)} models"


def test_resume_skips_what_is_done(run: Command, swept: list[str], tmp_path: Path) -> None:
    file = tmp_path / "zoo.jsonl"
    arguments = ["zoo", "--source", "torchvision", "--output", str(file)]
    assert run(*arguments, "raft_small").exit_code == 0
    result = run(*arguments, "raft", "--resume")
    assert result.stderr == "1 model done before, 1 to go\n"
    assert swept == ["torchvision:raft_small", "torchvision:raft_large"]
    assert [entry["model"] for entry in entries(file)] == swept
    assert "raft_small" in result.stdout, "the tables count all"
    again = run(*arguments, "raft")
    assert again.exit_code == 2
    assert "exists; continue it with --resume, or give another file" in again.stderr


def test_a_report_is_written(run: Command, swept: list[str], tmp_path: Path) -> None:
    page = tmp_path / "zoo.md"
    result = run("zoo", "raft", "--source", "torchvision", "--report", str(page))
    assert result.exit_code == 0
    assert len(swept) == 2
    assert "- TraceError: raised KeyError: torchvision:raft_large," in page.read_text()
    nowhere = run("zoo", "raft", "--source", "torchvision", "--report", str(tmp_path / "no" / "x"))
    assert nowhere.exit_code == 2
    assert "cannot write into" in nowhere.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["resnet18", "--resume"], "--resume continues a file; give --output FILE"),
        (["resnet18", "--verify-below", "many"], "write it as 60M, not 'many'"),
        (["resnet18", "--verify-below", "-1"], "write it as 60M, not '-1'"),
        (["resnet18", "--jobs", "0"], "0 is not in the range x>=1"),
        (["rafd_small"], "no model matches 'rafd_small': did you mean"),
    ],
)
def test_wrong_usage(run: Command, arguments: list[str], text: str) -> None:
    result = run("zoo", *arguments)
    assert result.exit_code == 2
    assert text in result.stderr


@pytest.mark.slow
def test_a_sweep_of_four_models(tmp_path: Path) -> None:
    file = tmp_path / "zoo.jsonl"
    arguments = ["zoo", "shufflenet_v2_x?_?", "--source", "torchvision", "--jobs", "2"]
    done = subprocess.run(
        [*FXTRANSPORT, *arguments, "--output", str(file), "--verify-below", "2M"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    found = {entry["model"]: entry for entry in entries(file)}
    assert len(found) == 4
    assert not any(entry["refusal"] for entry in found.values())
    small = found["torchvision:shufflenet_v2_x0_5"]["verified"]
    assert small["sizes"] == [[3, 64, 64]]
    assert small["errors"] == {"train": 0.0, "eval": 0.0}
    assert found["torchvision:shufflenet_v2_x2_0"]["verified"] is None
    assert done.stdout.rstrip().splitlines()[-1].startswith("total")


@pytest.mark.slow
def test_ctrl_c_leaves_a_file_to_resume(tmp_path: Path) -> None:
    file = tmp_path / "zoo.jsonl"
    command = [*FXTRANSPORT, "zoo", "torchvision:resne?t*", "--output", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not (file.exists() and len(file.read_text().splitlines()) > 1):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest == "interrupted\n"
    before = entries(file)
    done = subprocess.run(
        [*command[:-3], before[0]["model"], "--output", str(file), "--resume"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "1 model done before, 0 to go\n"
    assert entries(file) == before
