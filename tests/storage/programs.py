"""Programs to save, how two of them compare, and how a folder is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fxtransport import Program, load, transportify
from fxtransport.errors import SavedProgramError
from fxtransport.models import build, resolve
from fxtransport.storage import graph_hash


def compiled(name: str, *shape: int, modules: int = 1, **options: Any) -> Program:
    """A program with numbers that no fresh model has."""
    torch.manual_seed(1)
    model = build(resolve(name), **options)
    example = torch.zeros(2, *shape) if shape else None
    program = transportify(model, example, modules=modules, head="token")
    with torch.no_grad():
        for tensor in [*program.parameters(), *program.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor))
    return program


def assert_same(found: Program, expected: Program) -> None:
    """Same names, same numbers, same dtypes, same functions."""
    state = expected.state_dict()
    assert found.state_dict().keys() == state.keys()
    for name, tensor in found.state_dict().items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name]), name
    assert graph_hash(found) == graph_hash(expected)
    assert found.code == expected.code


def refused(folder: Path) -> str:
    """The one line with which a folder is refused."""
    with pytest.raises(SavedProgramError) as caught:
        load(folder)
    message = str(caught.value)
    assert message
    assert len(message.splitlines()) == 1
    return message
