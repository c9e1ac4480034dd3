"""Checkpoints are complete or refused, whatever happens to their files."""

import errno
import json
import os
import pickle
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fxtransport.errors import CheckpointError
from fxtransport.training import Parallel
from fxtransport.training.checkpoint import CHECKPOINT, Checkpoint, RunFolder
from tests.training.runs import PROCESSES, train_stream, trainer_of, validation_stream


def checkpoint(value: float, folder: RunFolder | None = None) -> Checkpoint:
    tensors = {"weights": torch.full((1000,), value)}
    best = folder.write_tensors("best", tensors) if folder else None
    return Checkpoint({"value": value}, {"state": tensors, "list": [1, None]}, best)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "new" / "run")
    assert not folder.has_checkpoint
    folder.write(checkpoint(1.0, folder))
    found = folder.read()
    assert found.summary == {"value": 1.0}
    assert found.state["list"] == [1, None]
    assert torch.equal(found.state["state"]["weights"], torch.ones(1000))
    assert found.best is not None
    assert torch.equal(folder.read_tensors(found.best)["weights"], torch.ones(1000))


def test_only_the_last_and_the_best_stay(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write(checkpoint(1.0, folder))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "last.safetensors.new").write_text("half a file")
    for value in (2.0, 3.0):
        folder.write(checkpoint(value, folder))
    kinds = sorted(path.name.partition("-")[0] for path in tmp_path.iterdir())
    assert kinds == ["best", "checkpoint.json", "last", "notes.txt"]


def test_files_have_the_usual_mode(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write(checkpoint(1.0))
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("call", [1, 2])
def test_a_full_disk_leaves_the_last_checkpoint(
    failing: str, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.write(checkpoint(1.0))
    before = sorted(tmp_path.iterdir())
    original, calls = getattr(os, failing), 0

    def full(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*arguments)

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(CheckpointError, match=r"No space left on device; the last .* is complete"):
        folder.write(checkpoint(2.0))
    assert folder.read().summary == {"value": 1.0}
    assert not list(tmp_path.glob("*.new"))
    folder.write(checkpoint(3.0))
    assert folder.read().summary == {"value": 3.0}
    assert len(list(tmp_path.iterdir())) == len(before)


def _write_with_little_room(path: Path, answers: Any) -> None:
    # what the system says of a file that is too large, as of a disk that is full
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        RunFolder(path).write(checkpoint(2.0))
    except CheckpointError as error:
        answers.put(str(error))


@pytest.mark.slow
def test_the_system_refuses_to_write(tmp_path: Path) -> None:
    RunFolder(tmp_path).write(checkpoint(1.0))
    answers = PROCESSES.Queue()
    process = PROCESSES.Process(target=_write_with_little_room, args=(tmp_path, answers))
    process.start()
    answer = answers.get(timeout=60)
    process.join()
    assert "File too large" in answer
    assert "\n" not in answer
    assert RunFolder(tmp_path).read().summary == {"value": 1.0}
    assert not list(tmp_path.glob("*.new"))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write into"):
        RunFolder(tmp_path / "file" / "run").write(checkpoint(1.0))


def rewrite(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def damage(run: Path) -> None:
        found = json.loads((run / CHECKPOINT).read_text())
        change(found)
        (run / CHECKPOINT).write_text(json.dumps(found))

    return damage


def tensors_of(run: Path) -> Path:
    return next(run.glob("last-*"))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no json": lambda run: (run / CHECKPOINT).unlink(),
    "empty json": lambda run: (run / CHECKPOINT).write_text(""),
    "cut json": lambda run: os.truncate(run / CHECKPOINT, 500),
    "other json": lambda run: (run / CHECKPOINT).write_text('{"epoch": 3}'),
    "a list": lambda run: (run / CHECKPOINT).write_text("[1, 2]"),
    "a pickle": lambda run: (run / CHECKPOINT).write_bytes(pickle.dumps({"format": 1})),
    "bytes": lambda run: (run / CHECKPOINT).write_bytes(b"\xff\xfe\x00"),
    "another format": rewrite(lambda found: found.update(format=99)),
    "the format before": rewrite(lambda found: found.update(format=1)),
    "no tensors": lambda run: tensors_of(run).unlink(),
    "cut tensors": lambda run: os.truncate(tensors_of(run), 3000),
    "other tensors": lambda run: save_file({"x": torch.zeros(3)}, tensors_of(run)),
    "no best": lambda run: next(run.glob("best-*")).unlink(),
    "cut best": lambda run: os.truncate(next(run.glob("best-*")), 3000),
    "no name": rewrite(lambda found: found.pop("tensors")),
    "name of another kind": rewrite(lambda found: found.update(tensors=["x"])),
    "best of another kind": rewrite(lambda found: found.update(best={"file": "x"})),
    "state gone": rewrite(lambda found: found.pop("state")),
    "state of nothing": rewrite(lambda found: found.update(state={"dict": []})),
    "state of another kind": rewrite(lambda found: found.update(state={"dict": [["program", 3]]})),
    "state is a list": rewrite(lambda found: found.update(state=[])),
    "summary gone": rewrite(lambda found: found.pop("summary")),
    "summary of another kind": rewrite(lambda found: found.update(summary=3)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    trainer_of(Parallel(1), tmp_path).fit(train_stream(), validation_stream())
    DAMAGE[kind](tmp_path)
    with pytest.raises(CheckpointError) as error:
        trainer_of(Parallel(1), tmp_path).restore()
    assert "\n" not in str(error.value)


def test_a_name_in_the_json_leads_nowhere_else(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer_of(Parallel(1), run).fit(train_stream())
    tensors_of(run).rename(tmp_path / "outside.safetensors")
    rewrite(lambda found: found["tensors"].update(file="../outside.safetensors"))(run)
    with pytest.raises(CheckpointError, match="cannot read"):
        RunFolder(run).read()


def test_there_is_no_pickle_in_a_run(tmp_path: Path) -> None:
    trainer_of(Parallel(1), tmp_path, ema=0.5).fit(train_stream(), validation_stream())
    assert len(list(tmp_path.iterdir())) == 5
    for path in tmp_path.iterdir():
        match path.suffix:
            case ".safetensors":
                load_file(path)
            case ".json":
                json.loads(path.read_text())
            case suffix:
                assert suffix == ".csv"
