"""Only what a run wrote is replaced or deleted; the list of it stays short."""

from pathlib import Path

import pytest

from fxtransport.errors import CheckpointError
from fxtransport.training import manifest
from fxtransport.training.manifest import FILES, HEADER, Manifest

OLD, NEW = (f"last-{digit * 16}.safetensors" for digit in "01")


def test_a_name_is_taken_before_its_file_is_there(tmp_path: Path) -> None:
    files = Manifest(tmp_path / "run")
    assert files.names() == set()
    files.claim("a.csv")
    assert files.names() == {"a.csv"}
    (tmp_path / "run" / "a.csv").touch()
    files.claim("a.csv")
    (tmp_path / "run" / "b.csv").touch()
    with pytest.raises(CheckpointError, match=r"b\.csv is there already"):
        files.claim("b.csv")
    assert (tmp_path / "run" / FILES).read_text() == f"{HEADER}\na.csv\n"


def test_what_is_listed_and_named_as_tensors_is_deleted(tmp_path: Path) -> None:
    files = Manifest(tmp_path)
    files.note(OLD, NEW, "notes.txt")
    others = [OLD, NEW, "notes.txt", OLD.replace("0", "2"), "best-x.safetensors"]
    for name in others:
        (tmp_path / name).touch()
    files.delete("last-", {NEW})
    assert {path.name for path in tmp_path.iterdir()} == {FILES, *others[1:]}


def test_what_a_crash_left_is_known_by_the_token(tmp_path: Path) -> None:
    files = Manifest(tmp_path)
    with files.new_file() as beside:
        token = beside.name[1:17]
        assert beside.exists()
    assert not beside.exists()
    left, other = tmp_path / f".{token}-{'0' * 16}.new", tmp_path / f".{'0' * 16}-{token}.new"
    left.touch()
    other.touch()
    assert files.leftovers() == {left.name}
    files.delete("last-", set())
    assert not left.exists()
    assert other.exists()


def test_a_long_list_forgets_what_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_MANY", 10)
    files = Manifest(tmp_path)
    with files.new_file():
        pass
    (tmp_path / "metrics.csv").touch()
    files.note("metrics.csv", *(f"last-{n:016}.safetensors" for n in range(20)))
    files.delete("last-", set())
    assert files.names() == {"metrics.csv"}
    assert len((tmp_path / FILES).read_text().splitlines()) == 3


@pytest.mark.parametrize("content", [b"mine\n", b"\xff\xfe", HEADER.encode()[:-2]])
def test_a_list_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILES).write_bytes(content)
    with pytest.raises(CheckpointError, match="not the list of files that a run writes"):
        Manifest(tmp_path).names()
