"""Checkpoints are complete or refused, whatever happens to their files."""

import errno
import json
import os
import pickle
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fxtransport import Program
from fxtransport.errors import CheckpointError, SavedProgramError
from fxtransport.training import Parallel
from fxtransport.training.checkpoint import CHECKPOINT, Checkpoint, RunFolder
from tests.training.runs import (
    PROCESSES,
    program_of,
    rewrite_checkpoint,
    train_stream,
    trainer_of,
    validation_stream,
)


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
    for name in MINE:
        (tmp_path / name).write_text("mine")
    left = half_written(tmp_path)
    for value in (2.0, 3.0):
        folder.write(checkpoint(value, folder))
    assert not left.exists()
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {*MINE}
    kinds = sorted(name.partition("-")[0] for name in names - {*MINE})
    assert kinds == ["best", "checkpoint.json", "files.txt", "last", "notes.txt"]


MINE = (
    "notes.new",
    "last.safetensors.new",
    "best-export.safetensors",
    "epoch-00001.safetensors",
    "last-0123456789abcdef.safetensors",
    ".0123456789abcdef-0123456789abcdef.new",
)
"""Files of the user's, with names as the run gives them."""


def half_written(folder: Path) -> Path:
    """What a process that is killed leaves of a file."""
    with RunFolder(folder).new_file() as beside:
        beside.write_text("half a file")
        return Path(shutil.copy(beside, beside.with_name(beside.name[:-8] + "0000.new")))


def test_a_file_of_the_user_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("mine")
    folder = RunFolder(tmp_path)
    with pytest.raises(CheckpointError, match=r"results\.json is there already, and this run did"):
        folder.write_json("results.json", {})
    assert (tmp_path / "results.json").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files.txt", "results.json"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    folder = RunFolder(run)
    folder.write(checkpoint(1.0))
    elsewhere.write_text("mine")
    (run / CHECKPOINT).unlink()
    (run / CHECKPOINT).symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match=r"a link is in the place of checkpoint\.json"):
        folder.write(checkpoint(2.0))
    assert elsewhere.read_text() == "mine"


def test_a_lost_list_of_files_is_made_again(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "files.txt").unlink()
    trainer = trainer_of(Parallel(1), run)
    trainer.restore()
    trainer.save()
    assert len(list(run.glob("last-*"))) == 1
    assert trainer_of(Parallel(1), run).restore().epochs == 1


def test_a_list_of_files_that_is_not_ours_is_left(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "files.txt").write_text("bread\nmilk\n")
    with pytest.raises(CheckpointError, match=r"files\.txt is damaged, or not the list of files"):
        trainer_of(Parallel(1), run).restore()
    assert (run / "files.txt").read_text() == "bread\nmilk\n"


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
    return lambda run: rewrite_checkpoint(run, change)


def edited(text: str, other: str) -> Callable[[Path], object]:
    """What the hash in the file notices."""

    def damage(run: Path) -> None:
        content = (run / CHECKPOINT).read_text()
        assert text in content
        (run / CHECKPOINT).write_text(content.replace(text, other, 1))

    return damage


def tensors_of(run: Path) -> Path:
    return next(run.glob("last-*"))


def strided(tree: Any) -> Any:
    name, entry = tree["dict"][0]
    return {"dict": [[name, {**entry, "stride": [1, -5]}], *tree["dict"][1:]]}


def linked(path: Path) -> None:
    """A link to the file in its place."""
    path.symlink_to(path.rename(path.parent.parent / "elsewhere"))


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def in_state(name: str, change: Callable[[Any], Any]) -> Callable[[Path], object]:
    """Another value in the state, under a right hash."""

    def edit(found: dict[str, Any]) -> None:
        [pair] = [pair for pair in found["state"]["dict"] if pair[0] == name]
        pair[1] = change(pair[1])

    return rewrite(edit)


def moved(**values: int) -> Callable[[Any], Any]:
    """Another position."""

    def change(tree: Any) -> Any:
        return {"dict": [[name, values.get(name, old)] for name, old in tree["dict"]]}

    return change


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
    "another seed": edited('"seed": 5', '"seed": 6'),
    "another loss": edited('"loss": ', '"loss": 1'),
    "another position": edited('"epochs", 1', '"epochs", 0'),
    "no hash": edited('"sha256": "', '"sha512": "'),
    "a link": lambda run: linked(run / CHECKPOINT),
    "a pipe": lambda run: piped(run / CHECKPOINT),
    "a folder": lambda run: ((run / CHECKPOINT).unlink(), (run / CHECKPOINT).mkdir()),
    "huge": lambda run: os.truncate(run / CHECKPOINT, 2**33),
    "tensors are a link": lambda run: linked(tensors_of(run)),
    "tensors are a pipe": lambda run: piped(tensors_of(run)),
    "huge tensors": lambda run: os.truncate(tensors_of(run), 2**42),
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
    "an epoch too many": in_state("position", moved(phase=0, epoch=3, epochs=3)),
    "a phase too many": in_state("position", moved(phase=7)),
    "a batch too many": in_state("position", moved(batch=1)),
    "epochs that do not add up": in_state("position", moved(epochs=2)),
    "a step that is no number": in_state("position", moved(steps=-1)),
    "an exit too many": in_state("exits", lambda tree: [move_exit(tree[0], 9)]),
    "best of nothing": in_state("best", lambda _: {"dict": []}),
    "finished is a number": in_state("finished", lambda _: 1),
    "no generators": in_state("random", lambda _: None),
    "another stride": in_state("program", strided),
    "whole numbers for weights": lambda run: replace_tensors(run, "program.stem.weight"),
    "summary gone": rewrite(lambda found: found.pop("summary")),
    "summary of another kind": rewrite(lambda found: found.update(summary=3)),
}


def move_exit(tree: Any, part: int) -> Any:
    return {"dict": [[k, part if k == "part" else v] for k, v in tree["dict"]]}


def replace_tensors(run: Path, name: str) -> None:
    """A tensor of another kind, under right hashes."""
    tensors = load_file(tensors_of(run))
    weights = RunFolder(run).write_tensors("last", {**tensors, name: tensors[name].long()})
    rewrite_checkpoint(run, lambda found: found.update(tensors=asdict(weights)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run; tests may not change it."""
    run = tmp_path_factory.mktemp("finished") / "run"
    trainer_of(Parallel(1), run).fit(train_stream(), validation_stream())
    return run


@pytest.fixture(scope="module")
def program() -> Program:
    return program_of()


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_in_one_line(
    kind: str, finished: Path, program: Program, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    DAMAGE[kind](run)
    with pytest.raises((CheckpointError, SavedProgramError)) as error:
        trainer_of(Parallel(1), run, program=program).restore()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_what_is_not_damaged_is_restored(finished: Path, program: Program) -> None:
    assert trainer_of(Parallel(1), finished, program=program).restore().epochs == 1


def test_a_name_in_the_json_leads_nowhere_else(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    tensors_of(run).rename(tmp_path / "outside.safetensors")
    rewrite(lambda found: found["tensors"].update(file="../outside.safetensors"))(run)
    with pytest.raises(CheckpointError, match="is not a file of tensors"):
        RunFolder(run).read()


def test_there_is_no_pickle_in_a_run(tmp_path: Path) -> None:
    trainer_of(Parallel(1), tmp_path, ema=0.5).fit(train_stream(), validation_stream())
    assert len(list(tmp_path.iterdir())) == 6
    for path in tmp_path.iterdir():
        match path.suffix:
            case ".safetensors":
                load_file(path)
            case ".json":
                json.loads(path.read_text())
            case suffix:
                assert suffix in (".csv", ".txt")
