"""Programs that a schedule would not train correctly are refused by name."""

from dataclasses import dataclass

import pytest
import torch

from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.objectives import ProjectionCost, lap
from fxtransport.training import (
    EndToEnd,
    Parallel,
    Phase,
    Schedule,
    Sequential,
    Trainer,
    TrainerSettings,
)
from tests.training.runs import SHAPE, Shared, SmallNet, program_of, train_stream, trainer_of


@dataclass(frozen=True)
class LastPart(Schedule):
    """The last part alone trains."""

    def phases(self, parts: int) -> tuple[Phase, ...]:
        return (Phase((parts - 1,), self.epochs),)


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
        ("frozen", LastPart(1), "part 1 has no parameter that requires"),
        ("meta", EndToEnd(1), "on the meta device"),
    ],
)
def test_programs_that_cannot_be_trained(kind: str, schedule: Schedule, message: str) -> None:
    program = program_of(head="none" if kind == "headless" else "auto")
    if kind == "frozen":
        program.parts[1].requires_grad_(False)
    if kind == "meta":
        program = transportify(SmallNet().to("meta"), torch.zeros(2, *SHAPE), verify=False)
    with pytest.raises(UsageError, match=message):
        trainer_of(schedule, program=program)


def test_what_stays_frozen_needs_no_head() -> None:
    program = program_of(head="none")
    before = {name: value.clone() for name, value in program.state_dict().items()}
    trainer_of(LastPart(1), program=program).fit(train_stream())
    changed = {name for name, value in program.state_dict().items() if value.ne(before[name]).any()}
    assert changed
    assert changed <= set(program.parts[1].state_dict())


def test_costs_of_projections_need_projections() -> None:
    objective = lap(0.5, 0.1, 2, cost=ProjectionCost("soft-matching"))
    with pytest.raises(UsageError, match="the program has no projection block"):
        trainer_of(EndToEnd(1), objective=objective)
    plain = trainer_of(EndToEnd(1))
    assert plain.step(torch.zeros(2, *SHAPE), torch.tensor([0, 1])).parts


@pytest.mark.parametrize(
    ("schedule", "counts", "message"),
    [
        (Parallel(1), (1,), "is 1, and parts to train: 2; give one number for each, at most 2,2"),
        (Parallel(1), (0, 3), "is 0,3, and part 1 has 2 residual blocks .* not 3; give at most"),
        (EndToEnd(1), (5,), "the program has 4 residual blocks"),
        (EndToEnd(1), (1, 1), "parts to train: 1; give one number for each, at most 4"),
    ],
)
def test_counts_of_blocks_are_those_of_the_parts(
    schedule: Schedule, counts: tuple[int, ...], message: str
) -> None:
    settings = TrainerSettings(checkpoint_blocks=counts)
    with pytest.raises(UsageError, match=message):
        Trainer(program_of(SmallNet), lap(1.0, 0.1, 1), schedule, settings=settings)


def test_parts_compute_as_many_blocks_again_as_is_said() -> None:
    program = program_of(SmallNet)
    program.parts[1].checkpoint_activations = True
    Trainer(program, lap(1.0, 0.1, 1), Parallel(1))
    assert [part.checkpointed_blocks for part in program.parts] == [0, 2]
    Trainer(
        program, lap(1.0, 0.1, 1), Parallel(1), settings=TrainerSettings(checkpoint_blocks=(1, 0))
    )
    assert [part.checkpointed_blocks for part in program.parts] == [1, 0]
