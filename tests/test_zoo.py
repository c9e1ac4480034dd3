"""The sweep: what a record says, and that nothing a model does ends it."""

import json
from pathlib import Path

import pytest

from fxtransport.errors import TraceError, UsageError
from fxtransport.zoo import (
    Record,
    Refusal,
    Verified,
    open_records,
    refusal_of,
    refusals,
    study,
    summarize,
    sweep,
)
from tests.cli.conftest import NETS

BAD = """

def crash():
    import os
    os._exit(3)


def sleep():
    import time
    time.sleep(60)


def unforeseen():
    raise SystemError("oh")
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zoo") / "nets.py"
    path.write_text(NETS + BAD)
    return path


def test_a_record_says_what_was_found(file: Path) -> None:
    record = study(f"{file}:Net", verify_below=1000)
    assert record.family == "file:nets"
    assert record.parameters == 112 + 4 * 148 + 25
    assert record.residuals == {"identity": 4}
    assert record.layers == 0
    assert record.boundaries == 3
    assert record.imbalances.keys() == {"2", "4", "8"}
    assert record.imbalances["2"] is not None
    assert record.imbalances["8"] is None, "it has four blocks"
    assert record.verified == Verified((3, 8, 8), {"train": 0.0, "eval": 0.0})
    assert record.refusal is None
    assert Record.from_json(record.to_json()) == record


def test_layers_without_residuals_and_no_verification_by_default(file: Path) -> None:
    record = study(f"{file}:Plain")
    assert (record.residuals, record.layers, record.verified) == ({}, 4, None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Decides", "TraceError: has data-dependent control flow"),
        ("Raises", "TraceError: raised KeyError"),
        ("Sizeless", "ModelNameError: the input's size is not known"),
    ],
)
def test_refusals_have_a_class(file: Path, name: str, kind: str) -> None:
    record = study(f"{file}:{name}")
    assert record.refusal is not None
    assert record.refusal.kind == kind
    assert Record.from_json(record.to_json()) == record


def test_reasons_name_no_folder_of_this_machine() -> None:
    error = TraceError("rpn (Rpn) raised KeyError at /a/lib/site-packages/timm/x.py:3: no.")
    assert refusal_of(error).reason == "rpn (Rpn) raised KeyError at timm/x.py:3: no."


def test_verification_takes_the_smallest_input() -> None:
    record = study("torchvision:squeezenet1_1", verify_below=60_000_000)
    assert record.verified is not None
    assert record.verified.size == (3, 64, 64)


@pytest.mark.slow
def test_no_model_ends_the_sweep(file: Path) -> None:
    names = [f"{file}:{name}" for name in "Net crash sleep unforeseen Decides Plain".split()]
    found = {r.model.rpartition(":")[2]: r for r in sweep(names, jobs=2, timeout=3)}
    kinds = {name: r.refusal.kind if r.refusal else None for name, r in found.items()}
    assert kinds == {
        "Net": None,
        "crash": "Crash: the process ended with code 3",
        "sleep": "Timeout: took more than 3 s",
        "unforeseen": "ModelNameError: unforeseen failed",
        "Decides": "TraceError: has data-dependent control flow",
        "Plain": None,
    }
    assert found["Net"].residuals == {"identity": 4}
    assert 3 <= found["sleep"].seconds < 10


def record(model: str, seconds: float, refusal: Refusal | None = None) -> Record:
    return Record(model, f"{model[0]}s", seconds, refusal=refusal)


def test_summary() -> None:
    no = Refusal("TraceError", "raised KeyError", "…")
    records = [record("b1", 1.0), record("a1", 2.0), record("a2", 4.0, no), record("a3", 3.0)]
    a, b = summarize(records)
    assert (a.family, a.models, a.compiled, a.refused) == ("as", 3, 2, 1)
    assert (a.median_seconds, a.slowest, a.slowest_seconds) == (3.0, "a2", 4.0)
    assert (b.family, b.models) == ("bs", 1)
    assert refusals(records) == {"TraceError: raised KeyError": ("a2",)}


def test_a_file_is_resumed_without_its_torn_line(tmp_path: Path) -> None:
    file = tmp_path / "zoo.jsonl"
    stream, records = open_records(file, 0, resume=True)
    assert records == []
    with stream:
        stream.write(record("a", 1.0).to_json() + "\n" + '{"model": "b", "fam')
    stream, records = open_records(file, 0, resume=True)
    with stream:
        stream.write(record("c", 1.0).to_json() + "\n")
    assert records == [record("a", 1.0)]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0].keys() >= {"fxtransport", "torch", "timm", "torchvision", "python"}
    assert [line["model"] for line in lines[1:]] == ["a", "c"]


def test_files_that_cannot_be_resumed(tmp_path: Path) -> None:
    file = tmp_path / "zoo.jsonl"
    open_records(file, 0, resume=False)[0].close()
    with pytest.raises(UsageError, match="exists; resume it"):
        open_records(file, 0, resume=False)
    with pytest.raises(UsageError, match="made with verify_below 0, not 9; give another"):
        open_records(file, 9, resume=True)
    with pytest.raises(UsageError, match="cannot write into"):
        open_records(file / "x", 0, resume=False)
    for text in ("[3]\n", "nonsense\n", f"{file.read_text()}3\n"):
        other = tmp_path / "other"
        other.write_text(text)
        with pytest.raises(UsageError, match="is not a file of records"):
            open_records(other, 0, resume=True)
        assert other.read_text() == text
