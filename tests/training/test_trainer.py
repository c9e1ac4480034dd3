"""The trainer: what it makes of a program is what the method says, no more and no less."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fxtransport import Program
from fxtransport.errors import UsageError
from fxtransport.objectives import lap, trgl, vangl
from fxtransport.training import (
    EndToEnd,
    EpochReport,
    Exit,
    FitReport,
    Observer,
    OptimizerSettings,
    Parallel,
    Phase,
    Position,
    Sequential,
    StepReport,
    Trainer,
    evaluate,
)
from tests.training.runs import (
    SCHEDULES,
    Shared,
    calm,
    program_of,
    samples,
    train_stream,
    trainer_of,
    validation_stream,
)

OPTIMIZER = OptimizerSettings(lr=0.05)


def by_hand(name: str, program: Program) -> None:
    """A user's own loop: a program, an objective and optimizers of torch."""
    goal, stream = lap(lambda0=0.5, lambda_rate=0.1, update_every=2), train_stream()
    parts = (program.whole,) if name == "end-to-end" else program.parts
    optimizers = [
        torch.optim.SGD(
            [
                {"params": [p for p in part.parameters() if p.ndim <= 1], "weight_decay": 0.0},
                {"params": [p for p in part.parameters() if p.ndim > 1], "weight_decay": 1e-4},
            ],
            lr=0.05,
            momentum=0.9,
        )
        for part in parts
    ]

    def train(k: int, hidden: Any, targets: Tensor) -> Any:
        output = parts[k](hidden, measure=goal.cost)
        optimizers[k].zero_grad()
        loss = goal(output, targets, goal.state(k))
        loss.total.backward()
        optimizers[k].step()
        goal.commit(k, loss.next)
        return output.hidden.detach()

    torch.manual_seed(5)
    epochs = {"end-to-end": "00", "parallel": "**", "sequential": "011", "multi-lap": "0101"}
    for n, trained in enumerate(epochs[name]):
        program.train()
        if trained == "1":
            program.parts[0].eval()
        for images, targets in stream.epoch(n):
            if trained == "*":
                train(1, train(0, images, targets), targets)
            elif trained == "0":
                train(0, images, targets)
            else:
                with torch.no_grad():
                    hidden = parts[0](images, measure=None, head=False).hidden
                train(1, hidden, targets)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_loop_of_ones_own_is_the_trainer(name: str) -> None:
    own, trained = program_of(), program_of()
    by_hand(name, own)
    trainer_of(SCHEDULES[name], program=trained, optimizer=OPTIMIZER).fit(train_stream())
    for key, value in own.state_dict().items():
        assert torch.equal(trained.state_dict()[key], value), key


@pytest.mark.parametrize("name", SCHEDULES)
def test_steps_of_ones_own_are_fit(name: str) -> None:
    stepped, fitted = program_of(), program_of()
    report = trainer_of(SCHEDULES[name], program=fitted).fit(train_stream())
    trainer = trainer_of(SCHEDULES[name], program=stepped)
    torch.manual_seed(5)
    while trainer.position.epochs < report.position.epochs:
        for images, targets in train_stream().epoch(trainer.position.epochs):
            trainer.step(images, targets)
        trainer.end_epoch()
    assert trainer.position == report.position
    for key, value in fitted.state_dict().items():
        assert torch.equal(stepped.state_dict()[key], value), key


class Notes(Observer):
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.epochs: list[EpochReport] = []

    def on_phase(self, phase: Phase, position: Position) -> None:
        self.events.append(("phase", phase.parts))

    def on_step(self, step: StepReport, position: Position) -> None:
        self.events.append(("step", position.epoch, position.batch, step.samples))

    def on_epoch(self, epoch: EpochReport) -> None:
        self.epochs.append(epoch)
        self.events.append(("epoch", tuple(exit.part for exit in epoch.exits)))

    def on_checkpoint(self, path: Path, position: Position) -> None:
        self.events.append(("checkpoint", path.name, position.steps))

    def on_end(self, report: FitReport) -> None:
        self.events.append(("end",))


def test_observers_are_told_in_order(tmp_path: Path) -> None:
    notes = Notes()
    trainer_of(Sequential(1), tmp_path, observers=[notes]).fit(train_stream(), validation_stream())
    name = "checkpoint.json"
    steps = [("step", 0, 1, 8), ("step", 0, 2, 8), ("step", 0, 3, 6)]
    assert notes.events == [
        ("checkpoint", name, 0),
        ("phase", (0,)),
        *steps,
        ("epoch", (0,)),
        ("checkpoint", name, 3),
        ("phase", (1,)),
        *steps,
        ("epoch", (0, 1)),
        ("checkpoint", name, 6),
        ("checkpoint", name, 6),
        ("end",),
    ]


@pytest.mark.parametrize("folder", [True, False])
def test_the_best_exit_is_kept_and_tested_once(folder: bool, tmp_path: Path) -> None:
    notes, test = Notes(), Counted()
    run = tmp_path if folder else None
    trainer = trainer_of(Parallel(12), run, observers=[notes])
    report = trainer.fit(train_stream(), validation_stream(), test)
    assert test.reads == 1
    last = {key: value.clone() for key, value in trainer.program.state_dict().items()}
    assert report.best is not None
    accuracies = [exit.accuracy for epoch in notes.epochs for exit in epoch.exits]
    assert report.best.exit.accuracy == max(accuracies)
    # of equals the later part, and then the first in time
    first = min(
        (at for at, found in enumerate(accuracies) if found == max(accuracies)),
        key=lambda at: (-(at % 2), at),
    )
    assert (report.best.epoch, report.best.exit.part) == (first // 2 + 1, first % 2)
    assert report.exits == notes.epochs[-1].exits
    trainer.load_best()
    assert evaluate(trainer.program, validation_stream())[first % 2] == report.best.exit
    assert evaluate(trainer.program, test, parts=[first % 2]) == (report.test,)
    assert first // 2 < 11, "the best epoch is the last, so nothing is shown"
    assert any(not torch.equal(last[k], v) for k, v in trainer.program.state_dict().items())


class Counted:
    """A test split that counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Any:
        self.reads += 1
        return iter([samples(12, seed=2).batch(range(12))])


def test_the_program_keeps_its_last_weights() -> None:
    with_test, without = program_of(), program_of()
    trainer_of(Parallel(3), program=without).fit(train_stream())
    trainer_of(Parallel(3), program=with_test).fit(train_stream(), validation_stream(), Counted())
    for key, value in without.state_dict().items():
        assert torch.equal(with_test.state_dict()[key], value), key


def test_without_validation_the_last_exit_is_tested() -> None:
    trainer = trainer_of(Sequential(1))
    report = trainer.fit(train_stream(), test=Counted())
    assert report.best is None
    assert (report.test,) == evaluate(trainer.program, Counted(), parts=[1])
    with pytest.raises(UsageError, match="nothing was validated"):
        trainer.load_best()


def test_the_test_split_is_touched_once_in_all_of_a_run(tmp_path: Path) -> None:
    test = Counted()
    report = trainer_of(Parallel(1), tmp_path).fit(train_stream(), validation_stream(), test)
    again = trainer_of(Parallel(1), tmp_path)
    again.restore()
    assert again.fit(train_stream(), validation_stream(), test) == report
    assert test.reads == 1


def test_an_average_is_what_is_validated() -> None:
    program = program_of(calm)
    trainer = trainer_of(Parallel(2), program=program, ema=0.5, optimizer=OPTIMIZER)
    expected = {key: value.clone() for key, value in program.state_dict().items()}
    steps = 0
    for n in range(2):
        for images, targets in train_stream().epoch(n):
            trainer.step(images, targets)
            # timm's first two updates take the weights as they are
            decay = 0.5 if steps >= 1 else 0.0
            steps += 1
            for key, value in program.state_dict().items():
                if value.is_floating_point():
                    expected[key].lerp_(value, 1 - decay)
    for key, value in trainer.validated.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[key], msg=key)
    report = trainer_of(Parallel(1), program=program, ema=0.5).fit(
        train_stream(), validation_stream()
    )
    assert report.exits != evaluate(program, validation_stream())


def test_the_learning_rate_follows_the_epochs_of_each_part() -> None:
    notes = Notes()
    trainer_of(SCHEDULES["multi-lap"], observers=[notes]).fit(train_stream())
    # cosine over the two epochs of each part
    assert [epoch.parts[0].lr for epoch in notes.epochs] == [0.05, 0.05, 0.025, 0.025]


@pytest.mark.parametrize(
    "options",
    [
        {"amp": "bf16"},
        {"amp": "fp16"},
        {"channels_last": True},
        {"compile": "eager"},
        {"deterministic": True},
        {"accumulate": 3},
        {"grad_clip": 0.1},
        {"ema": 0.9, "ema_warmup": True},
        {"update_frozen_bn": True},
        {"device": "cpu"},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("name", ["end-to-end", "parallel", "sequential"])
def test_settings_train(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Every setting trains by every schedule, and its run can be resumed."""
    program = program_of()
    before = copy.deepcopy(program.state_dict())
    trainer = trainer_of(SCHEDULES[name], tmp_path, program=program, **options)
    report = trainer.fit(train_stream(), validation_stream(), validation_stream())
    changed = {k for k, v in program.state_dict().items() if not torch.equal(v, before[k])}
    assert changed >= {"stem.weight", "blocks.3.conv.weight", "head.weight"}
    resumed = trainer_of(SCHEDULES[name], tmp_path, **options)
    resumed.restore()
    assert resumed.fit(train_stream(), validation_stream()) == report


def test_nothing_stays_deterministic() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    trainer_of(Parallel(1), deterministic=True).fit(train_stream())
    assert torch.are_deterministic_algorithms_enabled() == before


def test_shared_parameters_are_saved_once(tmp_path: Path) -> None:
    program = program_of(Shared)
    trainer = trainer_of(EndToEnd(2), tmp_path, program=program)
    trainer.fit(train_stream(), validation_stream())
    resumed = trainer_of(EndToEnd(2), tmp_path, program=program_of(Shared))
    resumed.restore()
    weights = [resumed.program.get_parameter(f"blocks.{i}.conv.weight") for i in (0, 3)]
    assert weights[0] is weights[1]
    assert torch.equal(weights[0], program.get_parameter("blocks.0.conv.weight"))
    resumed.load_best()


def test_end_to_end_needs_no_heads() -> None:
    report = trainer_of(EndToEnd(1), program=program_of(head="none")).fit(
        train_stream(), validation_stream()
    )
    assert [exit.part for exit in report.exits] == [1]


def test_methods_of_the_papers() -> None:
    """Each part has its τ; VanGL measures nothing."""
    images, targets = samples(8).batch(range(8))
    report = trainer_of(Parallel(1), objective=trgl(tau=[0.5, 1.0])).step(images, targets)
    assert [step.multiplier and step.multiplier.item() for step in report.parts] == [0.5, 1.0]
    report = trainer_of(Parallel(1), objective=vangl()).step(images, targets)
    assert [step.transport for step in report.parts] == [None, None]


def test_too_few_tau_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match="tau has 1 values, too few for part 1"):
        trainer_of(Parallel(1), objective=trgl(tau=[0.5]))
    trainer_of(EndToEnd(1), objective=trgl(tau=[0.5]))


def test_parts_may_be_blocks() -> None:
    program = program_of(modules=4)
    report = trainer_of(Sequential(1), program=program).fit(train_stream(), validation_stream())
    assert [exit.part for exit in report.exits] == [0, 1, 2, 3]


@pytest.mark.cuda
@pytest.mark.parametrize("amp", [None, "bf16", "fp16"])
def test_on_cuda(amp: str | None, tmp_path: Path) -> None:
    trainer = trainer_of(Parallel(2), tmp_path, device="cuda", amp=amp, cache_hidden=True)
    report = trainer.fit(train_stream(), validation_stream(), validation_stream())
    assert isinstance(report.test, Exit)
    assert next(trainer.program.parameters()).is_cuda
    resumed: Trainer = trainer_of(Parallel(2), tmp_path, device="cuda", amp=amp, cache_hidden=True)
    resumed.restore()
    assert resumed.fit(train_stream(), validation_stream()) == report
