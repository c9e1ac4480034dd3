"""What the trainer refuses, and what stops it: told by name, with nothing lost."""

from pathlib import Path

import pytest
import torch
from torch import nn

from fxtransport import transportify
from fxtransport.errors import CheckpointError, TrainingError, UsageError
from fxtransport.training import (
    EndToEnd,
    Observer,
    Parallel,
    Position,
    Schedule,
    Sequential,
    StepReport,
)
from fxtransport.training.checkpoint import RunFolder
from tests.training.runs import (
    SCHEDULES,
    SHAPE,
    Net,
    Shared,
    program_of,
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


def test_shared_parameters_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"blocks\.0\.conv\.weight \(parts 0, 1\).*end to end"):
        trainer_of(Parallel(1), program=program_of(Shared))
    trainer_of(EndToEnd(1), program=program_of(Shared)).fit(train_stream())


@pytest.mark.parametrize(
    ("kind", "schedule", "message"),
    [
        ("headless", Parallel(1), "part 0 has no auxiliary head"),
        ("headless", Sequential(1), "part 0 has no auxiliary head"),
        ("frozen", Parallel(1), "part 1 has no parameter that requires"),
        ("meta", EndToEnd(1), "on the meta device"),
    ],
)
def test_programs_that_cannot_be_trained(kind: str, schedule: Schedule, message: str) -> None:
    program = program_of(head="none" if kind == "headless" else "auto")
    if kind == "frozen":
        program.parts[1].requires_grad_(False)
    if kind == "meta":
        program = transportify(Net().to("meta"), torch.zeros(2, *SHAPE), verify=False)
    with pytest.raises(UsageError, match=message):
        trainer_of(schedule, program=program)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="the device 'cuda:77' cannot be used"):
        trainer_of(Parallel(1), device="cuda:77")


def test_data_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="nothing to train on"):
        trainer_of(Parallel(1)).fit([])
    with pytest.raises(UsageError, match="nothing to evaluate on"):
        trainer_of(Parallel(1)).fit(train_stream(), [])


def test_a_folder_that_cannot_be_written_is_noticed_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write"):
        trainer_of(Parallel(1), tmp_path / "file" / "run").fit(train_stream())


@pytest.mark.cuda
def test_on_cuda_a_loss_is_noticed_before_it_is_saved(tmp_path: Path) -> None:
    class Poison(Observer):
        def on_step(self, step: StepReport, position: Position) -> None:
            if position.steps == 4:
                nn.init.constant_(trainer.program.get_parameter("head.bias"), float("nan"))

    trainer = trainer_of(Parallel(3), tmp_path, device="cuda", observers=[Poison()])
    with pytest.raises(TrainingError, match=r"of part 1 is nan at step 5.*of step 3"):
        trainer.fit(train_stream())
