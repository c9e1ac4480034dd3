"""The weights that a run begins with, from a file or from another run."""

import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import nn

from fxtransport.errors import MODEL_ERRORS, UsageError, first_line
from fxtransport.program import HEADS
from fxtransport.report.words import plural
from fxtransport.training.checkpoint import RunFolder

_SHOWN = 4
"""How many names are listed of those that differ."""
_NUMPY = (".npz", ".npy")
_TRACKED = "num_batches_tracked"
"""A buffer that old checkpoints lack, and that no forward reads."""


def start_from(model: nn.Module, source: Path, classes: int) -> str:
    """Copy weights from a file into a model, wherever names and shapes agree.

    Of timm's models, weights in another form are converted by the function of timm that converts
    pretrained ones, such as for another image size.

    Args:
        model: What they are copied into.
        source: A run's folder, of which the best weights count, or else the last; or a file: of
            safetensors, of ``torch.save`` as timm and torchvision write it (with ``state_dict``,
            ``model`` and averages in it), or an ``.npz`` that timm's model reads itself.
        classes: The number of classes: a classifier for another number keeps its own weights.

    Returns:
        What was copied, and what was not, in words.

    Raises:
        UsageError: there is no such file, it cannot be read, or its weights are of another model.
    """
    if source.suffix.lower() in _NUMPY:
        return _start_from_numpy(model, source)
    state = _read(source)
    found = _match(model, state, classes)
    convert = getattr(sys.modules.get(type(model).__module__), "checkpoint_filter_fn", None)
    if (found.other or not found.shared) and convert is not None:
        found = _match(model, _convert(convert, state, model, source), classes)
    _refuse(found, model, source)
    with torch.no_grad():
        own = model.state_dict()
        for name, tensor in found.shared.items():
            own[name].copy_(tensor)
    return found.describe(source)


@dataclass(frozen=True)
class _Match:
    """How the weights of a file fit a model."""

    shared: Mapping[str, torch.Tensor]
    heads: tuple[str, ...]
    """Of the file, for another number of classes."""
    other: tuple[str, ...]
    """Of the file, of other shapes."""
    missing: tuple[str, ...]
    """Of the model."""
    unused: tuple[str, ...]
    """Of the file."""

    def describe(self, source: Path) -> str:
        """What was copied, and what was not."""
        total = len(self.shared) + len(self.heads) + len(self.missing)
        lines = [f"begins with {len(self.shared)} of {plural(total, 'tensor')} from {source}"]
        for words, names in (
            ("set aside, for another number of classes", self.heads),
            ("not in the file", self.missing),
            ("not in the model", self.unused),
        ):
            if names:
                lines.append(f"  {words}: {_listed(names)}")
        return "\n".join(lines)


def _match(model: nn.Module, state: Mapping[str, torch.Tensor], classes: int) -> _Match:
    own = model.state_dict()
    differ = [n for n, t in state.items() if n in own and own[n].shape != t.shape]
    heads = [
        n
        for n in differ
        if own[n].dim() == state[n].dim() > 0
        and own[n].shape[0] == classes
        and own[n].shape[1:] == state[n].shape[1:]
    ]
    return _Match(
        {n: t for n, t in state.items() if n in own and n not in differ},
        tuple(heads),
        tuple(n for n in differ if n not in heads),
        tuple(n for n in own if n not in state and not n.endswith(_TRACKED)),
        tuple(n for n in state if n not in own),
    )


def _refuse(found: _Match, model: nn.Module, source: Path) -> None:
    kind = type(model).__name__
    if found.other:
        raise UsageError(
            f"the weights in {source} are not for this {kind}: other shapes have "
            f"{_listed(found.other)}; build the model as theirs was built, or leave them out"
        )
    if not found.shared:
        raise UsageError(
            f"{source} has none of the weights of {kind}: it has {_listed(found.unused)}, the "
            f"model has {_listed(found.missing)}; give a file of the same model"
        )


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}" if names else "nothing"


def _read(source: Path) -> dict[str, torch.Tensor]:
    if source.is_dir():
        return _read_run(source)
    if not source.is_file():
        raise UsageError(
            f"there is no file {source}: give a file of weights or the folder of a run"
        )
    try:
        # tensors alone: no code of the file runs
        state = load_state_dict(str(source), weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, *MODEL_ERRORS) as error:
        raise UsageError(
            f"cannot read the weights in {source}: {_reason(error):.300}; give a state dict as "
            "torch.save or safetensors writes it"
        ) from error
    return {n: t for n, t in state.items() if isinstance(t, torch.Tensor)}


def _reason(error: BaseException) -> str:
    """Why a file is not one of weights, in words."""
    if isinstance(error, pickle.UnpicklingError | LookupError | EOFError):
        # what of its bytes was no pickle says nothing
        return "it is not a file of weights, or holds more than tensors"
    return first_line(error)


def _read_run(folder: Path) -> dict[str, torch.Tensor]:
    saved = RunFolder(folder)
    if not saved.has_checkpoint:
        raise UsageError(
            f"{folder} holds no run with a checkpoint: give a run or a file of weights"
        )
    checkpoint = saved.read()
    if checkpoint.best is not None:
        state: Mapping[str, Any] = saved.read_tensors(checkpoint.best)
    else:
        state = checkpoint.state["ema"] or checkpoint.state["program"]
    return {n: t for n, t in state.items() if not n.startswith(f"{HEADS}.")}


def _convert(
    convert: Any, state: Mapping[str, torch.Tensor], model: nn.Module, source: Path
) -> Mapping[str, torch.Tensor]:
    try:
        converted: Mapping[str, torch.Tensor] = convert(dict(state), model)
    except MODEL_ERRORS as error:
        raise UsageError(
            f"timm cannot convert the weights in {source} for {type(model).__name__}: "
            f"{type(error).__name__}: {_reason(error):.300}; give a file of the same model"
        ) from error
    return converted


def _start_from_numpy(model: nn.Module, source: Path) -> str:
    """Weights in a form of the model's authors, which timm's model itself knows."""
    load: Any = getattr(model, "load_pretrained", None)
    if load is None:
        raise UsageError(
            f"{type(model).__name__} does not read {source.suffix} files: give a file of "
            "safetensors, or of torch.save"
        )
    try:
        load(str(source))
    except (OSError, *MODEL_ERRORS) as error:
        raise UsageError(f"timm cannot read {source}: {first_line(error):.300}") from error
    return f"begins with {source}, as timm's {type(model).__name__} reads it"
