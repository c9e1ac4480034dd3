"""Programs to save, how two of them compare, and how a folder is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fxtransport import Program, load, save, transportify
from fxtransport.errors import SavedProgramError
from fxtransport.models import build, resolve


def program_of(name: str, *shape: int, modules: int = 1, **options: Any) -> Program:
    """A program whose weights differ from those of any new model."""
    torch.manual_seed(1)
    model = build(resolve(name), **options)
    example = torch.zeros(2, *shape) if shape else None
    program = transportify(model, example, modules=modules, head="token")
    with torch.no_grad():
        for tensor in [*program.parameters(), *program.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor))
    return program


def save_to(folder: Path, name: str) -> None:
    """Save a program of two parts."""
    save(program_of(name, modules=2), folder, model=name)


def assert_same(found: Program, expected: Program) -> None:
    """Assert that names, weights, dtypes and functions are the same."""
    state = expected.state_dict()
    assert found.state_dict().keys() == state.keys()
    for name, tensor in found.state_dict().items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name]), name
    assert found.graph_hash == expected.graph_hash
    assert found.code == expected.code


def refused(folder: Path) -> str:
    """The one line with which a folder is refused."""
    with pytest.raises(SavedProgramError) as caught:
        load(folder, trust_files=True)
    message = str(caught.value)
    assert message
    assert len(message.splitlines()) == 1
    return message
