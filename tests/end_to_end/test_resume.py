"""A run that was ended resumes as if it had not been: bit for bit, on the CPU."""

import copy
import csv
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fxtransport.errors import CheckpointError, RunInterruptedError, UsageError
from fxtransport.objectives import lap, trgl_multipliers
from fxtransport.training import EndToEnd, OptimizerSettings, Parallel
from fxtransport.training.checkpoint import RunFolder
from tests.training.runs import (
    PROCESSES,
    SCHEDULES,
    Signaller,
    described,
    finish,
    finish_killed_at_step,
    finish_killed_while_writing,
    program_of,
    train_stream,
    trainer_of,
    validation_stream,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a schedule's run that nothing ended."""
    runs: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in runs:
            runs[name] = tmp_path_factory.mktemp(name)
            finish(runs[name], name)
        return runs[name]

    return run


def killed(target: Callable[..., None], *arguments: Any) -> bool:
    """Run something in a process of its own; whether it was killed."""
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def assert_same_run(run: Path, other: Path) -> None:
    """All state is the same: the tensors' file is named by its hash in ``checkpoint.json``."""
    assert described(run) == described(other)
    files = [{p.name for p in r.iterdir() if p.suffix == ".safetensors"} for r in (run, other)]
    assert files[0] == files[1]
    assert len(files[0]) == 2
    assert untimed(run) == untimed(other)


def untimed(run: Path) -> list[dict[str, str]]:
    """What does not depend on the time that steps take, of the metrics."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    timed = ("samples_per_second", "peak_memory", "elapsed")
    return [{name: v for name, v in row.items() if name not in timed} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("within", ["the first epoch", "a later one"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_killed_within_an_epoch(
    name: str, within: str, tmp_path: Path, uninterrupted: Callable[[str], Path]
) -> None:
    step = 2 if within == "the first epoch" else 5
    assert killed(finish_killed_at_step, tmp_path, name, step, {"checkpoint_minutes": 1e-9})
    position = RunFolder(tmp_path).read().summary["position"]
    # the checkpoint of the step itself is written after it is reported
    assert (position["steps"], position["batch"]) == (step - 1, (step - 1) % 3)
    finish(tmp_path, name)
    assert_same_run(tmp_path, uninterrupted(name))


@pytest.mark.slow
def test_killed_with_a_checkpoint_per_epoch(
    tmp_path: Path, uninterrupted: Callable[[str], Path]
) -> None:
    assert killed(finish_killed_at_step, tmp_path, "sequential", 5, {})
    assert RunFolder(tmp_path).read().summary["position"]["steps"] == 3
    finish(tmp_path, "sequential")
    assert_same_run(tmp_path, uninterrupted("sequential"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "calls"),
    # four flushes and two renames make a checkpoint; the ninth rename is of the best weights
    [("fsync", (1, 3, 5, 6, 7, 8)), ("replace", (1, 2, 3, 4, 9, 10))],
)
def test_killed_while_writing(
    function: str, calls: tuple[int, ...], tmp_path: Path, uninterrupted: Callable[[str], Path]
) -> None:
    for call in calls:
        run = tmp_path / str(call)
        assert killed(finish_killed_while_writing, run, "parallel", function, call)
        assert not (run / "results.json").exists()
        finish(run, "parallel")
        assert_same_run(run, uninterrupted("parallel"))
        assert not list(run.glob("*.new"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_signal_saves(
    name: str, number: signal.Signals, tmp_path: Path, uninterrupted: Callable[[str], Path]
) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(RunInterruptedError, match=f"{number.name} ended the run after step 4") as e:
        finish(tmp_path, name, [Signaller(4, number)])
    assert (e.value.signal, e.value.exit_code) == (number, 128 + number)
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    assert RunFolder(tmp_path).read().summary["position"]["steps"] == 4
    finish(tmp_path, name)
    assert_same_run(tmp_path, uninterrupted(name))


@pytest.mark.parametrize(
    "options",
    [
        {"amp": "fp16"},
        {"amp": "bf16", "accumulate": 2, "grad_clip": 0.1},
        {"update_frozen_bn": True},
        {"cache_hidden": True},
        {"objective": trgl_multipliers(1.0, 0.5, 2, order="text")},
        {"optimizer": OptimizerSettings("adamw", 0.01, scheduler="poly")},
        {
            "optimizer": OptimizerSettings(
                scheduler="cosine",
                scheduler_options={"step_on_epochs": False, "updates_per_epoch": 3},
            )
        },
        *(
            {"optimizer": OptimizerSettings(name, 0.01)}
            for name in "adafactor adopt lamb lion lookahead_adamw muon nadamw rmsproptf".split()
        ),
    ],
    ids=str,
)
def test_whatever_a_run_is_made_of_goes_on(options: dict[str, Any], tmp_path: Path) -> None:
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    finish(whole, "sequential", **copy.deepcopy(options))
    with pytest.raises(RunInterruptedError):
        finish(ended, "sequential", [Signaller(5, signal.SIGTERM)], **copy.deepcopy(options))
    finish(ended, "sequential", **copy.deepcopy(options))
    assert described(whole) == described(ended)


def test_other_data_is_refused(tmp_path: Path) -> None:
    trainer_of(Parallel(2), tmp_path).fit(train_stream())
    again = trainer_of(Parallel(2), tmp_path)
    again.restore()
    with pytest.raises(CheckpointError, match=r"epochs have 3 steps, .* would have 6"):
        again.fit(train_stream(batch_size=4))


class Interrupting:
    """A split that sends a signal when it is read for the nth time."""

    def __init__(self, read: int) -> None:
        self.read = read
        self.stream = validation_stream()

    def __len__(self) -> int:
        return len(self.stream)

    def __iter__(self) -> Iterator[Any]:
        self.read -= 1
        if self.read == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return iter(self.stream)


@pytest.mark.parametrize(("split", "read"), [("validation", 2), ("test", 1)])
def test_a_signal_while_it_evaluates(
    split: str, read: int, tmp_path: Path, uninterrupted: Callable[[str], Path]
) -> None:
    splits = {"validation": validation_stream(), "test": validation_stream()}
    trainer = trainer_of(SCHEDULES["parallel"], tmp_path, ema=0.8)
    with pytest.raises(RunInterruptedError, match="after step 6"):
        trainer.fit(train_stream(), **{**splits, split: Interrupting(read)})
    finish(tmp_path, "parallel")
    assert_same_run(tmp_path, uninterrupted("parallel"))


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    finish(tmp_path, "parallel")
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    finish(tmp_path, "parallel")
    assert before == {p: p.read_bytes() for p in tmp_path.iterdir()}


def test_a_run_is_not_begun_over_another(tmp_path: Path) -> None:
    finish(tmp_path, "parallel")
    with pytest.raises(CheckpointError, match="already holds a run"):
        trainer_of(Parallel(1), tmp_path).fit(train_stream())


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("program", {"program": "three modules"}),
        ("objective", {"objective": lap(lambda0=0.5, lambda_rate=0.2, update_every=2)}),
        ("optimizer", {"optimizer": OptimizerSettings(lr=0.1)}),
        ("settings", {"accumulate": 2}),
    ],
)
def test_another_run_is_refused(what: str, options: dict[str, Any], tmp_path: Path) -> None:
    trainer_of(Parallel(1), tmp_path).fit(train_stream())
    if what == "program":
        options = {"program": program_of(modules=3)}
    with pytest.raises(CheckpointError, match=f"another {what}"):
        trainer_of(Parallel(1), tmp_path, **options).restore()
    with pytest.raises(CheckpointError, match="another schedule"):
        trainer_of(EndToEnd(1), tmp_path).restore()


def test_there_must_be_something_to_restore(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run folder"):
        trainer_of(Parallel(1)).restore()
    with pytest.raises(CheckpointError, match=r"it has no checkpoint\.json"):
        trainer_of(Parallel(1), tmp_path).restore()
