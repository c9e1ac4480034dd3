"""What is not finite stops a run: named, and never saved."""

from pathlib import Path

import pytest
from torch import nn

from fxtransport.errors import TrainingError
from fxtransport.training import (
    Observer,
    Parallel,
    Position,
    StepReport,
)
from fxtransport.training.checkpoint import RunFolder
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


@pytest.mark.cuda
def test_on_cuda_a_loss_is_noticed_before_it_is_saved(tmp_path: Path) -> None:
    class Poison(Observer):
        def on_step(self, step: StepReport, position: Position) -> None:
            if position.steps == 4:
                nn.init.constant_(trainer.program.get_parameter("head.bias"), float("nan"))

    trainer = trainer_of(Parallel(3), tmp_path, device="cuda", observers=[Poison()])
    with pytest.raises(TrainingError, match=r"of part 1 is nan at step 5.*of step 3"):
        trainer.fit(train_stream())
