"""The state of a run: what a checkpoint holds, and what must be the same to resume."""

import copy
import re

import pytest
import torch

from fxtransport.errors import CheckpointError, TrainingError
from fxtransport.objectives import TransportCost, lap, trgl
from fxtransport.training import OptimizerSettings, Parallel, Sequential, TrainerSettings
from fxtransport.training.checkpoint import Checkpoint
from fxtransport.training.state import describe_run
from tests.training.runs import program_of, train_stream, trainer_of


def test_everything_is_loaded_but_the_generators() -> None:
    trained = trainer_of(Parallel(1), ema=0.5)
    trained.fit(train_stream())
    state = trained._engine.state
    kept = copy.deepcopy(state.state_dict())
    other = trainer_of(Parallel(1), ema=0.5)._engine.state
    generator = torch.get_rng_state()
    other.load_checkpoint(Checkpoint({}, kept, None), Parallel(1).phases(2))
    assert torch.equal(torch.get_rng_state(), generator)
    assert other.position == state.position
    assert other.finished
    for name, value in state.program.state_dict().items():
        assert torch.equal(other.program.state_dict()[name], value), name
    for name, value in state.validated.state_dict().items():
        assert torch.equal(other.validated.state_dict()[name], value), name
    assert state.validated is not state.program


@pytest.mark.parametrize("key", ["program", "objective", "learners", "meter", "position"])
def test_a_state_with_a_gap_does_not_fit(key: str) -> None:
    state = trainer_of(Parallel(1))._engine.state
    kept = {name: value for name, value in state.state_dict().items() if name != key}
    with pytest.raises(CheckpointError, match=f"does not fit this run: KeyError: '{key}'"):
        state.load_checkpoint(Checkpoint({}, kept, None), Parallel(1).phases(2))


def test_a_parameter_that_is_not_finite_is_named() -> None:
    state = trainer_of(Parallel(1))._engine.state
    state.check_finite()
    state.program.get_parameter("stem.bias").data[1] = float("nan")
    with pytest.raises(TrainingError, match=r"^stem\.bias \(1 of \d+ parameters\) is not finite"):
        state.check_finite()


def cost(residue: object) -> None:
    """A measure that is a plain function."""


def test_what_changes_the_numbers_of_a_run_is_described() -> None:
    program, optimizer, settings = program_of(), OptimizerSettings(), TrainerSettings()
    base = describe_run(program, lap(1, 1, 1), Parallel(1), optimizer, settings)
    assert base == describe_run(program, lap(1, 1, 1), Parallel(1), optimizer, settings)
    others = {
        "program": describe_run(
            program_of(modules=4), lap(1, 1, 1), Parallel(1), optimizer, settings
        ),
        "objective": describe_run(
            program, lap(1, 1, 1, cost=TransportCost(p=3)), Parallel(1), optimizer, settings
        ),
        "schedule": describe_run(program, lap(1, 1, 1), Sequential(1), optimizer, settings),
        "optimizer": describe_run(
            program, lap(1, 1, 1), Parallel(1), OptimizerSettings(lr=0.5), settings
        ),
        "settings": describe_run(
            program, lap(1, 1, 1), Parallel(1), optimizer, TrainerSettings(accumulate=2)
        ),
    }
    for key, other in others.items():
        assert [name for name in base if base[name] != other[name]] == [key]
    seconds = TrainerSettings(checkpoint_minutes=3.0)
    assert describe_run(program, lap(1, 1, 1), Parallel(1), optimizer, seconds) == base


def test_addresses_of_functions_are_left_out() -> None:
    found = describe_run(
        program_of(),
        trgl(1, cost=cost),  # type: ignore[arg-type]
        Parallel(1),
        OptimizerSettings(),
        TrainerSettings(),
    )
    assert "function cost" in found["objective"]
    assert not re.search("0x[0-9a-f]+", found["objective"])
