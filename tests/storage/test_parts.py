"""Parts that are saved without the rest of the program."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from fxtransport import load_part, save_part, transportify
from fxtransport.errors import SavedProgramError
from fxtransport.nets import resnet_m
from fxtransport.program import Part, Program
from fxtransport.targets import compile_named


@pytest.fixture
def program() -> Program:
    return compile_named("nets:resnet_m", input_size=8, modules=3, num_classes=10)


def trained_step(part: Part, hidden: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(part.parameters(), lr=0.1)
    output = part.train()(hidden)
    (output.logits.square().mean() + output.costs.sum()).backward()
    optimizer.step()
    return {name: tensor.clone() for name, tensor in part.state_dict().items()}


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_saved_part_trains_as_the_part_does(program: Program, tmp_path: Path, index: int) -> None:
    """A step of what was loaded changes the weights as a step in place does, bit for bit."""
    hidden: Any = torch.randn(4, 1, 8, 8)
    for part in program.parts[:index]:
        hidden = part(hidden).hidden.detach()
    save_part(program.parts[index], tmp_path / "part")
    loaded = load_part(tmp_path / "part")
    found, expected = (trained_step(p, hidden) for p in (loaded, program.parts[index]))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    saved = (tmp_path / "part" / "weights.safetensors").stat().st_size
    assert saved < sum(p.numel() * p.element_size() for p in program.parameters())


def test_copies_and_pickled_parts_know_where_they_are_from(
    program: Program, tmp_path: Path
) -> None:
    part = pickle.loads(pickle.dumps(program.parts[1]))
    save_part(part, tmp_path / "part")
    loaded = load_part(tmp_path / "part")
    assert loaded.index == 1
    assert torch.equal(
        loaded.state_dict()["auxiliary_head.linear.bias"], part.auxiliary_head.linear.bias
    )


def test_buffers_that_are_not_persistent_are_saved(tmp_path: Path) -> None:
    program = compile_named("swin_tiny", input_size=224, modules=2, verify=False)
    save_part(program.parts[0], tmp_path / "part")
    state = dict(load_part(tmp_path / "part").named_buffers())
    expected = dict(program.parts[0].named_buffers())
    assert state.keys() == expected.keys()
    assert set(expected) - program.parts[0].state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_what_cannot_be_saved_or_loaded_is_said(program: Program, tmp_path: Path) -> None:
    nameless = transportify(resnet_m(image_size=8), modules=2)
    with pytest.raises(SavedProgramError, match="not made from a model's name"):
        save_part(nameless.parts[0], tmp_path / "part")
    with pytest.raises(SavedProgramError, match="does not hold a part"):
        load_part(tmp_path / "part")
    save_part(program.parts[0], tmp_path / "part")
    path = tmp_path / "part" / "part.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "part": 7}))
    with pytest.raises(SavedProgramError, match="there is no part 7"):
        load_part(tmp_path / "part")
    path.write_text(json.dumps({**json.loads(path.read_text()), "part": 1}))
    with pytest.raises(SavedProgramError, match="belongs to another part"):
        load_part(tmp_path / "part")
