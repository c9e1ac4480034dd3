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


def match_dtypes(program: nn.Module, state: dict[str, torch.Tensor], path: Path | str) -> None:
    """Convert parameters and buffers to the dtypes of the tensors of the same names.

    Args:
        program: What they are of.
        state: The tensors.
        path: Their file, or what else they are of, for errors.

    Raises:
        SavedProgramError: a number would become of another kind, a whole one say.
    """
    for name, tensor in [*program.named_parameters(), *program.named_buffers()]:
        if name in state:
            _check_kind(name, state[name], tensor, path)
            tensor.data = tensor.data.to(state[name].dtype)


def _check_kind(name: str, saved: torch.Tensor, present: torch.Tensor, path: Path | str) -> None:
    kinds = [
        (x.is_floating_point(), x.is_complex(), x.dtype is torch.bool) for x in (saved, present)
    ]
    if kinds[0] != kinds[1]:
        raise SavedProgramError(
            f"{path} belongs to another model: {name} is of {saved.dtype}, not {present.dtype}"
        )


def load_state(program: Program, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load a whole state of a program, as ``load_state_dict`` does.

    Args:
        program: What it is copied into.
        state: Its tensors by name.
        path: Their file, for errors.

    Raises:
        SavedProgramError: they belong to another model, or are no tensors.
    """
    present = program.state_dict()
    try:
        for name, tensor in state.items():
            if name in present:
                _check_kind(name, tensor, present[name], path)
        program.load_state_dict(state)
    except (AttributeError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise SavedProgramError(f"{path} belongs to another model: {reason:.300}") from error


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
        _check_kind(name, tensor, present[name], path)
    with torch.no_grad():
        for name, tensor in state.items():
            present[name].copy_(tensor)
