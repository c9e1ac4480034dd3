"""``fxtransport bench``: a table or an object, of a model or a run."""

import json

import pytest

from tests.cli.running import Command
from tests.runs.photos import photo_run

QUICK = ("--seconds", "0.01", "--batch-size", "4")


def test_the_table_of_a_model(run: Command) -> None:
    result = run("bench", "nets:resnet_m", "--input-size", "8", *QUICK)
    assert result.exit_code == 0, result.stderr
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["runs", "latency", "samples/s", "step", "of", "4", "memory"]
    assert [line.split()[:2] for line in lines] == [
        [name, "eager"] for name in ("model", "program", "parts")
    ]


def test_the_object_of_a_run(run: Command) -> None:
    result = run("bench", str(photo_run()), *QUICK, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["parts"], found["input_size"], found["batch_size"]) == (2, [3, 32, 32], 4)
    assert [each["what"] for each in found["figures"]] == ["model", "program", "parts"]
    assert all(each["step"] > 0 and each["peak_bytes"] > 0 for each in found["figures"])


BAD = {
    "no model": (["nosuch"], "no model is called 'nosuch'"),
    "parts of a run": (["{run}", "--modules", "2"], "is a run, which knows its parts"),
    "no device": (["{run}", "--device", "x"], "the device 'x' cannot be used"),
    "one sample": (["{run}", "--batch-size", "1"], "1 is not in the range x>=2"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD.keys())
def test_bad_usage_is_one_clear_line(run: Command, arguments: list[str], words: str) -> None:
    result = run("bench", *(each.replace("{run}", str(photo_run())) for each in arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr
    assert len([line for line in result.stderr.splitlines() if "rror: " in line]) == 1
