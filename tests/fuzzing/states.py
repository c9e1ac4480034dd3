"""What a model and the process hold: to compare, to copy and to put back."""

import copy
import dataclasses
import random
import types
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

INNER = {"_parameters", "_buffers", "_modules", "training", "_non_persistent_buffers_set"}
"""What ``nn.Module`` keeps for itself and is compared apart, or not at all."""


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Tensors and other values in nested containers, by their paths."""
    if isinstance(value, Mapping):
        yield f"{path} keys", (type(value).__name__, tuple(map(str, value)))
        for key, inner in value.items():
            yield from flat(inner, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        yield f"{path} length", (type(value).__name__, len(value))
        for k, inner in enumerate(value):
            yield from flat(inner, f"{path}[{k}]")
    elif dataclasses.is_dataclass(value) or isinstance(value, types.SimpleNamespace):
        yield f"{path} class", type(value).__name__
        for key, inner in vars(value).items():
            yield from flat(inner, f"{path}.{key}")
    elif isinstance(value, Tensor | int | float | str | torch.Size | type(None)):
        yield path, value
    else:
        yield f"{path} class", type(value).__name__


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that a model holds, by its path."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        held = {n: v for n, v in vars(module).items() if n not in INNER and "hooks" not in n}
        found.update(flat(held, f"attributes of {path or 'the root'}: "))
        hooks = {n: len(v) for n, v in vars(module).items() if n.endswith("_hooks")}
        found.update(flat(hooks, f"hooks of {path or 'the root'}"))
        found[f"training of {path or 'the root'}"] = module.training
        for name, buffer in module._buffers.items():
            found[f"buffer {path}.{name}"] = buffer
    found.update((f"parameter {n}", p) for n, p in model.named_parameters())
    return found


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first difference, in words; None if every bit is the same."""
    if one.keys() != other.keys():
        missing = sorted(one.keys() ^ other.keys())
        return f"{missing[0]}: only one of the two has it"
    for name, a in one.items():
        why = differs(a, other[name])
        if why:
            return f"{name.strip()}: {why}"
    return None


def differs(a: Any, b: Any) -> str | None:
    """How two values differ."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        same = type(a) is type(b) and (a == b or a != a)
        return None if same else f"{short(a)} in the model, {short(b)} in the program"
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return f"{short(a)} in the model, {short(b)} in the program"
    if a.layout is not b.layout:
        return f"{a.layout} in the model, {b.layout} in the program"
    if a.layout is not torch.strided:
        a, b = a.to_dense(), b.to_dense()
    if a.device.type == "meta" or bool(((a == b) | (a.isnan() & b.isnan())).all()):
        return None
    return f"differs by {(a.double() - b.double()).abs().max().item():.3g}"


def short(value: Any) -> str:
    """A value in words."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {value.dtype} on {value.device}"
    return f"{type(value).__name__} {value!r}"[:60]


def duplicate(model: nn.Module) -> nn.Module:
    """A deep copy, also of a model that has stashed tensors with a graph."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for _, value in flat(vars(module)):
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


def put_back(model: nn.Module, before: nn.Module) -> None:
    """Give a model the attributes and buffers that a copy of it has."""
    for module, saved in zip(model.modules(), before.modules(), strict=True):
        held = vars(module)
        for name in [n for n in held if n not in INNER and n not in vars(saved)]:
            del held[name]
        for name, value in vars(saved).items():
            if name not in INNER and "hooks" not in name:
                held[name] = value
        for name, buffer in saved._buffers.items():
            mine = module._buffers.get(name)
            if mine is None or buffer is None:
                module._buffers[name] = buffer
            else:
                mine.detach().copy_(buffer.detach())


def process() -> dict[str, Any]:
    """What the process holds that a compile may not change."""
    numpy = np.random.get_state(legacy=False)["state"]
    return {
        "torch's generator": torch.get_rng_state(),
        "Python's generator": str(hash(random.getstate())),
        "NumPy's generator": f"{hash(numpy['key'].tobytes())} {numpy['pos']}",
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": str(torch.get_default_dtype()),
        "default device": str(torch.get_default_device()),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "warnings": len(warnings.filters),
    }


def seed(number: int) -> None:
    """Seed every generator of the process."""
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)
