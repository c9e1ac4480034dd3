"""Modules without data: copies whose tensors have shapes, strides, a dtype and a device only."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import optimizer as torch_optimizer
from torch.utils import _foreach_utils

Module = TypeVar("Module", bound=nn.Module)
_L2_CACHE = 40 * 2**20
"""Bytes, of an A100: what optimizers adapt their kernels to where there is no device."""


class Fakes:
    """Makes copies without data.

    Args:
        mode: The mode that is active.
        device: Where the copies seem to be.
    """

    def __init__(self, mode: FakeTensorMode, device: torch.device) -> None:
        self.mode = mode
        self.device = device

    def copy(
        self,
        module: Module,
        *,
        channels_last: bool = False,
        others: Iterable[torch.Tensor] = (),
    ) -> Module:
        """A copy of a module.

        Args:
            module: The module.
            channels_last: Whether tensors of four dimensions are in that memory format.
            others: Tensors that it holds beside its parameters and buffers.
        """
        memo: dict[int, Any] = {}
        for tensor in (*module.parameters(), *module.buffers(), *others):
            memo[id(tensor)] = self.tensor(tensor, channels_last=channels_last)
        return copy.deepcopy(module, memo)

    def tensor(self, tensor: torch.Tensor, *, channels_last: bool = False) -> torch.Tensor:
        """A tensor of the same shape; a parameter of a parameter."""
        shape, dtype = tensor.shape, tensor.dtype
        empty = torch.empty_strided(shape, tensor.stride(), dtype=dtype, device="meta")
        if channels_last and tensor.dim() == 4:
            empty = torch.empty_like(empty, memory_format=torch.channels_last)
        fake = FakeTensor(self.mode, empty, self.device)
        if isinstance(tensor, nn.Parameter):
            fake.requires_grad_(tensor.requires_grad)
            # as nn.Parameter does, which would make another tensor
            fake._is_param = True
        return fake


@contextmanager
def without_data(device: torch.device) -> Iterator[Fakes]:
    """A context in which tensors have no data, and in which a device seems to be there.

    Args:
        device: The device; there need not be one.
    """
    with ExitStack() as stack:
        common, name = torch.cuda.amp.common, "amp_definitely_not_available"
        stack.enter_context(mock.patch.object(common, name, return_value=False))
        stack.enter_context(mock.patch.object(torch.cuda, "is_bf16_supported", return_value=True))
        if not torch.cuda.is_available():
            properties = SimpleNamespace(L2_cache_size=_L2_CACHE)
            answer = mock.patch.object(torch.cuda, "get_device_properties", lambda _: properties)
            stack.enter_context(answer)
        for module in (torch_optimizer, _foreach_utils):
            # optimizers choose their kernels by the exact type of parameters
            known = [*module._foreach_supported_types, FakeTensor]
            stack.enter_context(mock.patch.object(module, "_foreach_supported_types", known))
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        fakes = Fakes(mode, device)
        stack.enter_context(mode)
        yield fakes
