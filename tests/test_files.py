"""Files are complete or absent, and what is damaged is said in one line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fxtransport.errors import CheckpointError, SavedProgramError
from fxtransport.files import (
    append_text,
    check_tensors,
    check_writable,
    file_hash,
    has_content,
    path_beside,
    put,
    read_json,
    read_text,
)


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


def test_the_size_of_tensors_is_that_of_their_header(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    for tensors in ({}, {"a": torch.zeros(2, 3)}, {"a": torch.zeros(0), "b": torch.ones(5).bool()}):
        save_file(tensors, path, metadata={"what": "weights"})
        check_tensors(path)
        whole = path.read_bytes()
        for content in (whole[:-1], whole + b"\0", whole[:4], b"\xff" * 8 + whole, b""):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=r"."):
                check_tensors(path)
    path.write_bytes(whole)
    os.truncate(path, 2**40)
    with pytest.raises(ValueError, match=f"it has {2**40} bytes, and its header says"):
        check_tensors(path)


@pytest.mark.parametrize("header", ["[]", '{"a": 1}', '{"a": {"data_offsets": ["x", "y"]}}', "{"])
def test_headers_that_are_none(header: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(ValueError, match=r"."):
        check_tensors(path)


def test_a_check_leaves_no_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", SavedProgramError)
    assert not list(tmp_path.iterdir())


def linked(path: Path) -> None:
    path.with_name("elsewhere").write_text("mine")
    path.symlink_to("elsewhere")


NOT_FILES: dict[str, Callable[[Path], object]] = {
    "a link": linked,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("kind", NOT_FILES)
def test_what_is_no_file_is_neither_read_nor_replaced(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    NOT_FILES[kind](path)
    words = f"{kind} is in the place of file"
    for use in (read_text, file_hash, lambda path: append_text(path, "x")):
        with pytest.raises(OSError, match=words):
            use(path)
    with pytest.raises(OSError, match=words), path_beside(path):
        pass
    with path_beside(tmp_path / "other") as beside, pytest.raises(OSError, match=words):
        put(beside, path)
    with pytest.raises(CheckpointError, match=words):
        read_json(path, "program", 2, CheckpointError)
    if kind == "a link":
        assert (tmp_path / "elsewhere").read_text() == "mine"
        assert read_text(path, follow=True) == "mine"


def test_temporary_names_are_those_of_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file.new").write_text("mine")
    with path_beside(tmp_path / "file") as one, path_beside(tmp_path / "file") as other:
        assert one != other
        put(one, tmp_path / "file")
    assert (tmp_path / "file.new").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "file.new"]


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, 2**42)
    with pytest.raises(CheckpointError, match="has more than 67108864 bytes"):
        read_json(path, "program", 2, CheckpointError)
    assert not has_content(path, 3, "0" * 64)
    append_text(tmp_path / "small", "é")
    append_text(tmp_path / "small", "b")
    assert read_text(tmp_path / "small", limit=3) == "éb"
    with pytest.raises(OSError, match="more than 2 bytes"):
        read_text(tmp_path / "small", limit=2)
    assert has_content(tmp_path / "small", 3, file_hash(tmp_path / "small"))
    assert not has_content(tmp_path / "small", 3, "0" * 64)
