"""Files of records: read, resumed, refused."""

import json
from pathlib import Path

import pytest

from fxtransport.errors import UsageError
from fxtransport.zoo.file import open_records, read_records
from fxtransport.zoo.record import Options, Record


def record(model: str) -> Record:
    return Record(model, "family", 1.0)


def test_a_file_is_resumed_without_its_incomplete_line(tmp_path: Path) -> None:
    file = tmp_path / "zoo.jsonl"
    stream, records = open_records(file, Options(), resume=True)
    assert records == []
    with stream:
        stream.write(record("a").to_json() + "\n" + '{"model": "b", "fam')
    stream, records = open_records(file, Options(), resume=True)
    with stream:
        stream.write(record("c").to_json() + "\n")
    assert records == [record("a")]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0].keys() >= {"fxtransport", "torch", "timm", "torchvision", "python"}
    assert [line["model"] for line in lines[1:]] == ["a", "c"]


def test_files_that_cannot_be_resumed(tmp_path: Path) -> None:
    file = tmp_path / "zoo.jsonl"
    open_records(file, Options(), resume=False)[0].close()
    with pytest.raises(UsageError, match="exists; resume it"):
        open_records(file, Options(), resume=False)
    with pytest.raises(UsageError, match="made with verify_below 0, not 9; give another"):
        open_records(file, Options(9), resume=True)
    with pytest.raises(UsageError, match="cannot write into"):
        open_records(file / "x", Options(), resume=False)
    for text in ("[3]\n", "nonsense\n", f"{file.read_text()}3\n"):
        other = tmp_path / "other"
        other.write_text(text)
        with pytest.raises(UsageError, match="is not a file of records"):
            open_records(other, Options(), resume=True)
        assert other.read_text() == text


def test_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "zoo.jsonl"
    stream, _ = open_records(file, Options(5, "backbone"), resume=False)
    with stream:
        stream.write(record("a").to_json() + "\n")
    found = read_records(file)
    assert found.found == [record("a")]
    assert found.header["verify_below"] == 5
    assert found.header["submodule"] == "backbone"
    with pytest.raises(UsageError, match="cannot read"):
        read_records(tmp_path / "none")
