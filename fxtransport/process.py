"""What a compile leaves of the caller's process: everything as it was.

Passes run the model's own code, seed generators and switch what is global in torch. All of it is
put back where they end, however they end.
"""

import gc
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


def devices_of(model: nn.Module) -> tuple[torch.device, ...]:
    """The devices of a model's parameters and buffers, each once, that of the first one first."""
    found = dict.fromkeys(t.device for t in (*model.parameters(), *model.buffers()))
    real = (device for device in found if device.type != "meta")
    return tuple(real)


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter or buffer; the CPU where it has none."""
    return next(iter(devices_of(model)), torch.device("cpu"))


def seed_generators(seed: int, devices: tuple[torch.device, ...]) -> None:
    """Seed the generators of Python, NumPy, the CPU and these devices, and no others.

    ``torch.manual_seed`` seeds all accelerators, or, where they are not initialized yet, leaves
    calls that do so later, which nothing can take back.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    for device in devices:
        if device.type != "cpu":
            _set_state(device, torch.Generator(device).manual_seed(seed).get_state())


@contextmanager
def preserve_process(model: nn.Module) -> Iterator[None]:
    """Restore at the end what running passes on a model may change in the process.

    The generators of Python, NumPy and torch (the CPU's, and those of the model's devices);
    the default dtype, warning filters, grad mode, and torch's fast path of transformer layers;
    which parameters require gradients, and the mode of each module. Inside, gradients are on,
    it is not inference mode, and what ``torch.compile`` has compiled runs as it is written.
    """
    with ExitStack() as restored:
        restored.callback(_restore_generators, _generators(devices_of(model)))
        restored.callback(torch.set_default_dtype, torch.get_default_dtype())
        fused = torch.backends.mha.get_fastpath_enabled()
        restored.callback(torch.backends.mha.set_fastpath_enabled, fused)
        restored.callback(_restore_flags, _flags(model))
        restored.enter_context(warnings.catch_warnings())
        restored.enter_context(torch.inference_mode(False))
        restored.enter_context(torch.enable_grad())
        if "torch._dynamo" in sys.modules:
            # the user may have compiled functions or modules, which run as they are written here
            restored.enter_context(torch.compiler.set_stance("force_eager"))
            quiet = torch._dynamo.config.patch(error_on_nested_fx_trace=False)
            restored.enter_context(quiet)
        yield


@contextmanager
def without_collections() -> Iterator[None]:
    """Let Python look for garbage in cycles later.

    A pass makes a graph of many small objects, nearly all of which stay. To look through them,
    and through all that is imported, takes up to as long as the pass.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_State = tuple[Any, Any, torch.Tensor, tuple[tuple[torch.device, torch.Tensor], ...]]


def _generators(devices: tuple[torch.device, ...]) -> _State:
    others = tuple((d, _state(d)) for d in devices if d.type != "cpu")
    return random.getstate(), np.random.get_state(), torch.default_generator.get_state(), others


def _restore_generators(state: _State) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.default_generator.set_state(state[2])
    for device, own in state[3]:
        _set_state(device, own)


_Flags = tuple[list[tuple[nn.Module, bool]], list[tuple[nn.Parameter, bool]]]


def _flags(model: nn.Module) -> _Flags:
    modes = [(module, module.training) for module in model.modules()]
    return modes, [(p, p.requires_grad) for p in model.parameters()]


def _restore_flags(flags: _Flags) -> None:
    for module, training in flags[0]:
        if module.training != training:
            module.training = training
    for parameter, requires_grad in flags[1]:
        if parameter.requires_grad != requires_grad:
            parameter.requires_grad_(requires_grad)


def _state(device: torch.device) -> torch.Tensor:
    found: torch.Tensor = _backend(device).get_rng_state(*_index(device))
    return found


def _set_state(device: torch.device, state: torch.Tensor) -> None:
    _backend(device).set_rng_state(state, *_index(device))


def _index(device: torch.device) -> tuple[torch.device, ...]:
    """What says which device of a backend is meant; there is one MPS device, which says nothing."""
    return () if device.type == "mps" else (device,)


def _backend(device: torch.device) -> Any:
    return torch.get_device_module(device)
