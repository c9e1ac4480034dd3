"""What kernels take while they run, against the CPU allocator."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fxtransport.cpu_kernels import kernel_workspace, without_input_gradient
from tests.allocating import taken_inside

aten = torch.ops.aten
SHAPE = (4, 32, 16, 16)


def contiguous(*shape: int) -> Tensor:
    return torch.randn(shape)


def channels_last(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def permuted(*shape: int) -> Tensor:
    return torch.randn(shape[0], shape[2], shape[1], shape[3]).transpose(1, 2)


def sliced(*shape: int) -> Tensor:
    return torch.randn(shape[0], 2 * shape[1], *shape[2:])[:, : shape[1]]


Layout = Callable[..., Tensor]
LAYOUTS = [contiguous, channels_last, permuted, sliced]
C, N = torch.ones(32), torch.ones(16)
FORWARDS: dict[Any, tuple[Any, ...]] = {
    aten.native_batch_norm.default: (C, C, C, C, True, 0.1, 1e-5),
    aten.native_layer_norm.default: ([16], N, N, 1e-5),
    aten.native_group_norm.default: (C, C, 4, 32, 256, 8, 1e-5),
    aten._softmax.default: (-1, False),
    aten._log_softmax.default: (1, False),
    aten.avg_pool2d.default: ([2, 2], [2, 2]),
    aten.max_pool2d_with_indices.default: ([2, 2], [2, 2]),
    aten._adaptive_avg_pool2d.default: ([4, 4],),
    aten.gelu.default: (),
    aten.relu.default: (),
}
MOMENTS = torch.ones(4, 8), torch.ones(4, 8)
LINES = torch.ones(4, 32, 16, 1), torch.ones(4, 32, 16, 1)
BACKWARDS: dict[Any, tuple[Any, ...]] = {
    aten.native_batch_norm_backward.default: (C, C, C, C, C, True, 1e-5, [True] * 3),
    aten.native_layer_norm_backward.default: ([16], *LINES, N, N, [True] * 3),
    aten.native_group_norm_backward.default: (*MOMENTS, C, 4, 32, 256, 8, [True] * 3),
    aten._softmax_backward_data.default: (-1, torch.float32),
    aten.gelu_backward.default: (),
    aten._adaptive_avg_pool2d_backward.default: (),
    aten.avg_pool2d_backward.default: ([2, 2], [2, 2], [0, 0], False, True, None),
    aten.max_pool2d_with_indices_backward.default: ([2, 2], [2, 2], [0, 0], [1, 1], False),
}


def is_known(func: Any, arguments: tuple[Any, ...]) -> bool:
    size = torch.Size(SHAPE).numel() * 4
    return abs(kernel_workspace(func, arguments) - taken_inside(func, arguments)) < 0.1 * size


@pytest.mark.parametrize("func", FORWARDS, ids=str)
def test_forwards_copy_what_does_not_lie_as_they_read_it(func: Any) -> None:
    for layout in LAYOUTS:
        assert is_known(func, (layout(*SHAPE), *FORWARDS[func]))


@pytest.mark.parametrize("func", BACKWARDS, ids=str)
def test_backwards_copy_what_does_not_lie_as_they_read_it(func: Any) -> None:
    shape = (4, 32, 8, 8) if "pool2d" in str(func) else SHAPE
    for given in LAYOUTS:
        for saved in LAYOUTS:
            x = saved(*SHAPE)
            more = BACKWARDS[func]
            if "indices" in str(func):
                more = (*more, aten.max_pool2d_with_indices(x, [2, 2], [2, 2])[1])
            assert is_known(func, (given(*shape), x, *more))


def test_batch_norm_whose_input_needs_no_gradient() -> None:
    func = aten.native_batch_norm_backward.default
    every = (contiguous(*SHAPE), contiguous(*SHAPE), *BACKWARDS[func])
    assert kernel_workspace(func, every) == every[1].nbytes
    alone = without_input_gradient(func, every)
    assert alone[-1] == (False, True, True)
    assert is_known(func, alone)
    assert kernel_workspace(func, alone) == 0
