"""Places keep storages, and files of the disk behave as memory does."""

from pathlib import Path

import pytest
import torch

from fxtransport.errors import CheckpointError, UsageError
from fxtransport.training import TrainerSettings
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.places import Disk, MainMemory, choose_place, copy_to

CPU, FULL = torch.device("cpu"), Path("/dev/full")


def mapped_files() -> set[str]:
    """The deleted files that this process has mapped."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[4] for line in maps if line.endswith("(deleted)")}


def test_a_file_keeps_bytes_and_what_is_written_later(tmp_path: Path) -> None:
    place = Disk(tmp_path / "new")
    values = [torch.randn(3), torch.arange(7, dtype=torch.int8), torch.randn(2, 5).bfloat16()]
    kept = place.keep([value.untyped_storage() for value in values])
    found = [
        torch.empty(0, dtype=v.dtype).set_(s, 0, v.shape) for v, s in zip(values, kept, strict=True)
    ]
    for value, copy in zip(values, found, strict=True):
        assert torch.equal(value, copy)
        assert copy.data_ptr() % 64 == 0
        assert place.holds(copy.untyped_storage())
        assert not place.holds(value.untyped_storage())
    found[1].add_(1)
    place.settle()
    assert torch.equal(found[1], values[1] + 1)
    assert torch.equal(found[0], values[0])
    assert list((tmp_path / "new").iterdir()) == [], "a file has no name"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks /proc what is mapped")
def test_a_file_is_deleted_with_its_last_tensor(tmp_path: Path) -> None:
    before, place = mapped_files(), Disk(tmp_path)
    first, second = place.keep([torch.zeros(9).untyped_storage() for _ in range(2)])
    assert len(mapped_files() - before) == 1
    del first
    assert len(mapped_files() - before) == 1
    del second
    assert mapped_files() - before == set()


def test_nothing_is_written_for_nothing(tmp_path: Path) -> None:
    assert Disk(tmp_path / "new").keep([]) == []
    assert not (tmp_path / "new").exists()


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file: .*; make room there, or train without"):
        Disk(tmp_path / "file").keep([torch.zeros(1).untyped_storage()])


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: FULL.open("w+b", buffering=0))
    with pytest.raises(CheckpointError, match="No space left on device; make room there"):
        Disk(tmp_path).keep([torch.zeros(1).untyped_storage()])


def test_copies_are_their_own() -> None:
    value = torch.randn(4)
    copied = copy_to(value.untyped_storage(), CPU)
    assert torch.equal(torch.empty(0).set_(copied, 0, (4,)), value)
    assert copied.data_ptr() != value.data_ptr()


def test_main_memory_holds_what_is_on_the_cpu() -> None:
    place = MainMemory()
    assert place.holds(torch.zeros(1).untyped_storage())
    assert not place.holds(torch.zeros(1, device="meta").untyped_storage())
    assert place.serves(CPU)
    assert not place.serves(torch.device("cuda"))


def test_the_place_follows_from_the_device(tmp_path: Path) -> None:
    cuda, folder = torch.device("cuda"), RunFolder(tmp_path)

    def chosen(device: torch.device, to: str | None = None) -> type:
        settings = TrainerSettings(offload="frozen", offload_to=to)
        return type(choose_place(settings, device, folder))

    assert [chosen(cuda), chosen(cuda, "disk"), chosen(CPU), chosen(CPU, "disk")] == [
        MainMemory,
        Disk,
        Disk,
        Disk,
    ]
    with pytest.raises(UsageError, match="frees no memory where the device is the CPU; leave it"):
        chosen(CPU, "cpu")
    with pytest.raises(UsageError, match="needs a run folder"):
        choose_place(TrainerSettings(offload="frozen"), CPU, None)
