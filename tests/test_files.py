"""Files are complete or absent, and what is damaged is said in one line."""

from pathlib import Path

import pytest

from fxtransport.errors import CheckpointError, SavedProgramError
from fxtransport.files import check_writable, file_hash, path_beside, put, read_json


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file"
    with path_beside(target) as beside:
        beside.write_text("new")
        assert not target.exists()
        put(beside, target)
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_what_is_not_put_is_deleted(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(KeyError), path_beside(target) as beside:
        beside.write_text("half")
        raise KeyError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_hashes_differ_by_content(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"a")
    other.write_bytes(b"b")
    assert file_hash(one) != file_hash(other)
    other.write_bytes(b"a")
    assert file_hash(one) == file_hash(other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is damaged"),
        ("[]", "does not describe a program"),
        ('{"format": 1}', "has format 1; this version reads 2: save it again"),
        ('{"format": 3}', "has format 3; this version reads 2$"),
        ('{"format": "x"}', "has format 'x'; this version reads 2$"),
    ],
)
def test_json_that_cannot_be_read(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "program.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=words):
        read_json(path, "program", 2, CheckpointError, older="save it again")


def test_json_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "program.json"
    with pytest.raises(CheckpointError, match=r"does not hold a program: it has no program\.json"):
        read_json(path, "program", 2, CheckpointError)
    path.write_text('{"format": 2, "a": 1}')
    assert read_json(path, "program", 2, CheckpointError) == {"format": 2, "a": 1}


def test_older_formats_that_are_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "program.json"
    path.write_text('{"format": 1}')
    assert read_json(path, "program", 3, CheckpointError, also=(1, 2)) == {"format": 1}
    path.write_text('{"format": 0}')
    with pytest.raises(CheckpointError, match="has format 0; this version reads 3"):
        read_json(path, "program", 3, CheckpointError, also=(1, 2))


def test_a_check_leaves_no_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", SavedProgramError)
    assert not list(tmp_path.iterdir())
