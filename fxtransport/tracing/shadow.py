"""A copy of a model whose tensors are on the meta device.

It has the model's structure, code, hooks and flags, and no data, so that passes can run and
instrument it freely while the user's model stays untouched.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from fxtransport.copies import copy_model
from fxtransport.tracing.caches import without_caches
from fxtransport.tracing.checkpoints import without_checkpoints
from fxtransport.tracing.identities import holding_attributes, tensors_with_steps


def shadow_of(
    model: nn.Module,
    device: torch.device | str = "meta",
    fake: FakeTensorMode | None = None,
) -> nn.Module:
    """The model's shadow, in eval mode. Tied tensors stay tied.

    Args:
        model: What to copy.
        device: Where the copies of tensors are. Under a ``FakeTensorMode`` it may be a real
            one, and nothing is allocated.
        fake: The mode that is active, of which the tensors are made directly.
    """
    memo: dict[int, Any] = {}
    with _disable_current_modes() if fake is not None else nullcontext():
        for tensor in _tensors(model):
            if id(tensor) not in memo:
                memo[id(tensor)] = _without_data(tensor, device, fake)
    return without_caches(copy_model(model, memo).eval())


def _without_data(
    tensor: torch.Tensor, device: torch.device | str, fake: FakeTensorMode | None
) -> torch.Tensor:
    shape, stride = tensor.shape, tensor.stride()
    on = device if fake is None else "meta"
    empty = torch.empty_strided(shape, stride, dtype=tensor.dtype, device=on)
    if fake is not None:
        empty = FakeTensor(fake, empty, torch.device(device))
    if not isinstance(tensor, nn.Parameter):
        return empty.requires_grad_(tensor.requires_grad and tensor.is_leaf)
    if fake is None:
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    empty.requires_grad_(tensor.requires_grad)
    empty._is_param = True  # as nn.Parameter does, which would make another tensor
    return empty


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Every tensor that a module holds, also in plain attributes, containers and objects."""
    for module in model.modules():
        for _, value in holding_attributes(module):
            for _, tensor in tensors_with_steps(value):
                yield tensor


@contextmanager
def without_fast_paths() -> Iterator[None]:
    """Run modules by the code that a graph of them runs.

    Transformer layers of ``torch.nn`` have a fused path for inference, which hides the
    additions. Checkpointing wraps functions that a tracer must look into.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with without_checkpoints():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
