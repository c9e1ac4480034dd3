"""A program up to an exit, as a model of its own."""

import pytest
import torch

from fxtransport.errors import UsageError
from fxtransport.exits import ExitModel, exit_logits
from tests.training.runs import program_of, samples


def test_it_computes_what_the_exit_does_and_shares_nothing() -> None:
    program = program_of().eval()
    inputs, _ = samples(6).batch(range(6))
    hidden = program.parts[0](inputs)
    early, whole = ExitModel(program, 0), ExitModel(program, 1)
    assert torch.equal(early(inputs), hidden.logits)
    assert torch.equal(whole(inputs), program(inputs))
    assert not early.training
    own = {id(p) for p in early.parameters()}
    assert not own & {id(p) for p in program.parameters()}
    sizes = [sum(p.numel() for p in model.parameters()) for model in (early, whole)]
    expected = [sum(p.numel() for p in part.parameters()) for part in program.parts]
    assert sizes[0] == expected[0]


def test_several_exits_in_one_pass() -> None:
    program = program_of().eval()
    inputs, _ = samples(6).batch(range(6))
    found = exit_logits(program, inputs, (0, 1))
    assert torch.equal(found[0], ExitModel(program, 0)(inputs))
    assert torch.equal(found[1], program(inputs))
    assert exit_logits(program, inputs, (0,)).keys() == {0}


@pytest.mark.parametrize("exit", [-1, 2])
def test_an_exit_that_there_is_not(exit: int) -> None:
    program = program_of()
    with pytest.raises(UsageError, match=f"there is no part {exit}: the program has 2"):
        ExitModel(program, exit)
    with pytest.raises(UsageError, match=f"there is no part {exit}"):
        exit_logits(program, torch.zeros(1), (exit,))
