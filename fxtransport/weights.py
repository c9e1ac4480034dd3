"""The weights of a program as tensors by name: what is saved, and how it is loaded."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from fxtransport.errors import SavedProgramError
from fxtransport.program import HEADS, Program


def distinct_state(program: Program) -> dict[str, torch.Tensor]:
    """A copy of the state; tensors that share memory are in it once, as safetensors wants."""
    return distinct_tensors(program.state_dict())


def distinct_tensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of tensors; those that share memory are in it once, as safetensors wants."""
    seen: set[tuple[object, ...]] = set()
    distinct = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()._cdata
        key = (storage, tensor.storage_offset(), tensor.shape, tensor.stride())
        if key not in seen:
            seen.add(key)
            distinct[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
    return distinct


def model_state(program: Program) -> dict[str, torch.Tensor]:
    """A copy of the model's state under the model's own names, on the CPU, without heads.

    Tensors that share memory are each copied, because loading the plain model needs every key.
    """
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in program.state_dict().items()
        if not name.startswith(f"{HEADS}.")
    }


def match_dtypes(program: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Convert parameters and buffers to the dtypes of the tensors of the same names."""
    for name, tensor in [*program.named_parameters(), *program.named_buffers()]:
        if name in state:
            tensor.data = tensor.data.to(state[name].dtype)


def load_weights(program: Program, state: dict[str, torch.Tensor], path: Path) -> None:
    """Load weights that :func:`distinct_state` returned.

    Args:
        program: What they are copied into.
        state: The weights.
        path: Their file, for errors.

    Raises:
        SavedProgramError: they belong to another model.
    """
    present = program.state_dict()
    expected = distinct_state(program)
    if state.keys() != expected.keys():
        differ = sorted(state.keys() ^ expected.keys())
        raise SavedProgramError(
            f"{path} belongs to another model: only one of the two has {', '.join(differ[:5])}"
        )
    for name, tensor in state.items():
        if tensor.shape != present[name].shape:
            raise SavedProgramError(
                f"{path} belongs to another model: {name} is {tuple(tensor.shape)}, "
                f"not {tuple(present[name].shape)}"
            )
    with torch.no_grad():
        for name, tensor in state.items():
            present[name].copy_(tensor)
