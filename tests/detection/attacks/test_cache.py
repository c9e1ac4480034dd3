"""Attacked images on disk are complete and theirs, or are refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fxtransport.detection.attacks.cache import content_hash, fetch, store
from fxtransport.errors import UsageError


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {"attacked": torch.rand(3, 1, 2, 2), "broken": torch.tensor([True, False, False])}


def test_what_is_stored_is_fetched(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "new" / "set.safetensors"
    assert fetch(path, "key") is None
    store(path, "key", tensors)
    found = fetch(path, "key")
    assert found is not None
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_hash_tells_everything_apart() -> None:
    same = {"a": torch.zeros(4)}
    hashes = {
        content_hash({}, same),
        content_hash({"x": 1}, same),
        content_hash({}, {"b": torch.zeros(4)}),
        content_hash({}, {"a": torch.zeros(2, 2)}),
        content_hash({}, {"a": torch.zeros(4, dtype=torch.int32)}),
        content_hash({}, {"a": torch.tensor([0, 0, 0, 1e-30])}),
        content_hash({}, {"a": torch.zeros(4, dtype=torch.bfloat16)}),
        content_hash({}, {"a": torch.zeros(())}),
    }
    assert len(hashes) == 8
    transposed = torch.rand(3, 2).T
    assert content_hash({}, {"a": transposed}) == content_hash({}, {"a": transposed.contiguous()})


def test_every_changed_byte_is_found(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "set.safetensors"
    store(path, "key", tensors)
    content = path.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0x41
        path.write_bytes(changed)
        try:
            found = fetch(path, "key")
        except UsageError as error:
            assert "delete it" in str(error)
        else:
            # a byte of the header that means nothing
            assert found is not None
            assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(UsageError, match="does not hold attacked images"):
            fetch(path, "key")


def test_other_files_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "set.safetensors"
    store(path, "another", tensors)
    with pytest.raises(UsageError, match="it is not of this attack on these images; delete it"):
        fetch(path, "key")
    save_file(tensors, path)
    with pytest.raises(UsageError, match="it is not of this attack"):
        fetch(path, "key")


def test_a_folder_that_cannot_be_made_is_said(
    tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="attacked images cannot be written to"):
        store(tmp_path / "file" / "set.safetensors", "key", tensors)
