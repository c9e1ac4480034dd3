"""What is not finite stops a run: named, and never saved."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from fxtransport.errors import TrainingError, UsageError
from fxtransport.training import (
    EpochReport,
    Observer,
    Parallel,
    Position,
    StepReport,
    Trainer,
)
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.saver import ThreadsWarning
from tests.training.runs import (
    SCHEDULES,
    train_stream,
    trainer_of,
    validation_stream,
)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_loss_that_is_not_finite_stops(name: str, tmp_path: Path) -> None:
    class Poison(Observer):
        def on_step(self, step: StepReport, position: Position) -> None:
            if position.steps == 4:
                trainer.program.get_parameter("stem.bias").data[0] = float("inf")

    trainer = trainer_of(SCHEDULES[name], tmp_path, observers=[Poison()])
    part = {"end-to-end": 1, "parallel": 0, "sequential": 1, "multi-lap": 1}[name]
    message = (
        rf"the loss of part {part} is (nan|inf) at step 5, in epoch 2; the last good "
        r"checkpoint is .*checkpoint\.json, of step 3; "
    )
    with pytest.raises(TrainingError, match=message):
        trainer.fit(train_stream(), validation_stream())
    assert RunFolder(tmp_path).read().summary["position"]["steps"] == 3


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    class Poison(Observer):
        def on_step(self, step: StepReport, position: Position) -> None:
            if position.steps == 3:
                trainer.program.get_parameter("head.bias").data[0] = float("nan")

    trainer = trainer_of(Parallel(1), tmp_path, observers=[Poison()])
    with pytest.raises(TrainingError, match=r"head\.bias .* is not finite after step 3"):
        trainer.fit(train_stream())
    assert RunFolder(tmp_path).read().summary["position"]["steps"] == 0


def test_weights_are_kept_along_the_run_and_through_a_resume(tmp_path: Path) -> None:
    class Stop(Observer):
        def on_epoch(self, epoch: EpochReport) -> None:
            if epoch.position.epochs == 3:
                raise KeyboardInterrupt

    def trainer(*observers: Observer) -> Trainer:
        settings = {"keep_checkpoints": 2}
        return trainer_of(Parallel(5), tmp_path, observers=observers, **settings)

    with pytest.raises(KeyboardInterrupt):
        trainer(Stop()).fit(train_stream())
    resumed = trainer()
    resumed.restore()
    resumed.fit(train_stream())
    kept = RunFolder(tmp_path).read().kept
    assert [each.epochs for each in kept] == [0, 2, 4]
    names = {path.name for path in tmp_path.glob("epoch-*")}
    assert names == {each.weights.file for each in kept}
    stems = [RunFolder(tmp_path).read_tensors(each.weights)["stem.bias"] for each in kept]
    assert not torch.equal(stems[0], stems[1])
    assert not torch.equal(stems[1], stems[2])


@pytest.fixture
def threads() -> Iterator[int]:
    """The number of threads, which a test may change."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_a_run_says_that_it_goes_on_with_other_threads(tmp_path: Path, threads: int) -> None:
    class Stop(Observer):
        def on_epoch(self, epoch: EpochReport) -> None:
            raise KeyboardInterrupt

    torch.set_num_threads(1)
    with pytest.raises(KeyboardInterrupt):
        trainer_of(Parallel(2), tmp_path, observers=[Stop()]).fit(train_stream())
    assert RunFolder(tmp_path).read().summary["threads"] == 1
    torch.set_num_threads(2)
    with pytest.warns(ThreadsWarning, match=r"was on 1 threads .* with 2, .*OMP_NUM_THREADS=1"):
        trainer_of(Parallel(2), tmp_path).restore()
    torch.set_num_threads(1)
    resumed = trainer_of(Parallel(2), tmp_path)
    resumed.restore()
    resumed.fit(train_stream())
    # nothing more is computed of a run that is finished
    torch.set_num_threads(2)
    trainer_of(Parallel(2), tmp_path).restore()


def test_weights_are_kept_in_a_folder() -> None:
    with pytest.raises(UsageError, match="keep_checkpoints needs a run folder"):
        trainer_of(Parallel(1), keep_checkpoints=1)


@pytest.mark.cuda
def test_on_cuda_a_loss_is_noticed_before_it_is_saved(tmp_path: Path) -> None:
    class Poison(Observer):
        def on_step(self, step: StepReport, position: Position) -> None:
            if position.steps == 4:
                nn.init.constant_(trainer.program.get_parameter("head.bias"), float("nan"))

    trainer = trainer_of(Parallel(3), tmp_path, device="cuda", observers=[Poison()])
    with pytest.raises(TrainingError, match=r"of part 1 is nan at step 5.*of step 3"):
        trainer.fit(train_stream())
