"""Weights by name: each tensor once, copied, converted, and refused where they do not fit."""

from pathlib import Path

import pytest
import torch

from fxtransport import Program, transportify
from fxtransport.errors import SavedProgramError
from fxtransport.weights import (
    distinct_state,
    distinct_tensors,
    load_weights,
    match_dtypes,
    model_state,
)
from tests.networks import Tied, VectorNet


def program_of(model: torch.nn.Module) -> Program:
    return transportify(model, torch.zeros(2, 6), modules=2, head="token", verify=False)


def test_what_shares_memory_is_there_once() -> None:
    whole = torch.arange(6.0)
    tensors = {"a": whole, "again": whole, "view": whole[:3], "turned": whole.view(2, 3).mT}
    found = distinct_tensors(tensors)
    assert found.keys() == {"a", "view", "turned"}
    assert all(torch.equal(found[name], tensors[name]) for name in found)
    assert all(tensor.is_contiguous() for tensor in found.values())
    assert len({tensor.untyped_storage().data_ptr() for tensor in found.values()}) == 3
    whole.zero_()
    assert found["a"].tolist() == [0, 1, 2, 3, 4, 5]


def test_tied_weights_are_saved_once_and_loaded_into_both() -> None:
    program = program_of(Tied())
    state = distinct_state(program)
    assert "0.linear.weight" in state
    assert "1.linear.weight" not in state
    state["0.linear.weight"] = torch.full((6, 6), 3.0)
    load_weights(program, state, Path("weights"))
    assert torch.equal(program.get_parameter("1.linear.weight"), state["0.linear.weight"])


def test_the_models_own_state_has_every_name_and_no_head() -> None:
    model = Tied()
    state = model_state(program_of(model))
    assert state.keys() == model.state_dict().keys()
    Tied().load_state_dict(state, strict=True)
    assert state["0.linear.weight"].data_ptr() != state["1.linear.weight"].data_ptr()
    with torch.no_grad():
        model[3].bias.zero_()
    assert state["3.bias"].any()


def test_dtypes_follow_the_tensors() -> None:
    program = program_of(VectorNet())
    state = {"0.linear.weight": torch.zeros(6, 6, dtype=torch.bfloat16)}
    match_dtypes(program, state, "weights")
    assert program.get_parameter("0.linear.weight").dtype == torch.bfloat16
    assert program.get_parameter("1.linear.weight").dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"other": torch.zeros(1)}, "weights belongs to another model: only one .* has other$"),
        ({"3.bias": torch.zeros(5)}, r"another model: 3\.bias is \(5,\), not \(4,\)$"),
    ],
)
def test_weights_of_another_model_change_nothing(
    change: dict[str, torch.Tensor], message: str
) -> None:
    program = program_of(VectorNet())
    before = distinct_state(program)
    wrong = {name: tensor + 1 for name, tensor in before.items()} | change
    with pytest.raises(SavedProgramError, match=message):
        load_weights(program, wrong, Path("weights"))
    assert all(torch.equal(t, before[name]) for name, t in distinct_state(program).items())
