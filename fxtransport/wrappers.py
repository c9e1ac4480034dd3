"""Modules that wrap a model, and modules that cannot be opened."""

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy

from fxtransport.errors import UsageError


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside of what ``torch.compile`` and data parallelism wrap around it.

    Raises:
        UsageError: it is a script, or has parameters that are not initialized yet.

    >>> type(unwrap(nn.DataParallel(nn.Linear(2, 2)))).__name__
    'Linear'
    """
    while True:
        inside = _inside(model)
        if inside is None:
            break
        model = inside
    if isinstance(model, torch.jit.ScriptModule):
        raise UsageError(
            "the model is a ScriptModule, made by torch.jit.script or torch.jit.trace, which has "
            "no Python code to trace; give the nn.Module that it was made from"
        )
    _check_initialized(model)
    return model


def _inside(model: nn.Module) -> nn.Module | None:
    """What a wrapper wraps, None if it is none."""
    if isinstance(model, DataParallel | DistributedDataParallel):
        return model.get_submodule("module")
    # its class is in torch._dynamo, which takes seconds to import
    return model.get_submodule("_orig_mod") if type(model).__name__ == "OptimizedModule" else None


def _check_initialized(model: nn.Module) -> None:
    for path, module in model.named_modules():
        tensors = (*module._parameters.values(), *module._buffers.values())
        if any(is_lazy(tensor) for tensor in tensors):
            raise UsageError(
                f"{path or 'the model'} ({type(module).__name__}) has parameters that are not "
                "initialized yet: run the model once, model(x), and compile it then"
            )
