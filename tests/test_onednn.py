"""What convolutions take, against the CPU allocator."""

from typing import NamedTuple

import pytest
import torch

from fxtransport.onednn import convolution_workspace
from tests.allocating import taken_inside

FORWARD = torch.ops.aten.convolution.default
BACKWARD = torch.ops.aten.convolution_backward.default
pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="another processor has other kernels",
)


class Case(NamedTuple):
    """A convolution, and where its tensors lie."""

    channels: tuple[int, int]
    size: int
    kernel: int
    stride: int = 1
    groups: int = 1
    x_last: bool = False
    gradient_last: bool = False
    batch: int = 4


def _in(last: bool) -> torch.memory_format:
    return torch.channels_last if last else torch.contiguous_format


def arguments_of(case: Case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[object, ...]]:
    (inner, outer), stride = case.channels, (case.stride,) * 2
    padding = (0 if case.kernel == case.stride else case.kernel // 2,) * 2
    x = torch.randn(case.batch, inner, case.size, case.size).contiguous(
        memory_format=_in(case.x_last)
    )
    weight = torch.randn(outer, inner // case.groups, case.kernel, case.kernel)
    where = (stride, padding, (1, 1), False, (0, 0), case.groups)
    out = FORWARD(x, weight, None, *where)
    gradient = torch.randn_like(out).contiguous(memory_format=_in(case.gradient_last))
    return gradient, x, weight, where


SAME = [
    Case((64, 64), 32, kernel, groups=groups, x_last=last, gradient_last=last)
    for kernel, groups in [(1, 1), (3, 1), (3, 4), (3, 8), (3, 16), (7, 32), (3, 64)]
    for last in (False, True)
]
OTHERS = [
    Case((16, 32), 64, 3, 2),
    Case((64, 128), 32, 1, 2),
    Case((48, 48), 32, 3, 2, groups=6),
    # the weight is larger than the maps
    Case((256, 256), 4, 3),
    # channels that do not fill a block
    Case((24, 40), 32, 3),
    Case((3, 32), 64, 3, 2),
    Case((3, 128), 96, 16, 16),
    Case((3, 128), 96, 16, 16, gradient_last=True),
    Case((64, 64), 32, 3, gradient_last=True),
    # with such a batch oneDNN has 1×1 convolutions too
    Case((32, 24), 16, 1, batch=16),
    Case((512, 512), 2, 1, batch=16, x_last=True, gradient_last=True),
]


@pytest.mark.parametrize("case", [*SAME, *OTHERS], ids=lambda case: "-".join(map(str, case)))
def test_the_workspace_is_that_of_the_kernel(case: Case) -> None:
    gradient, x, weight, where = arguments_of(case)
    largest = max(gradient.nbytes, x.nbytes, weight.nbytes)
    # of images no gradient is asked for
    for needed in [(True, True, False), (False, True, False)][x.shape[1] == 3 :]:
        arguments = (gradient, x, weight, (0,), *where, needed)
        predicted = convolution_workspace(BACKWARD, arguments)
        assert abs(predicted - taken_inside(BACKWARD, arguments)) < 0.1 * largest


FORWARDS = [case for case in (*SAME, *OTHERS) if not (case.groups == 32 and case.x_last)]
"""In channels-last format the weights of groups of two channels are filled up, in several ways."""


@pytest.mark.parametrize("case", FORWARDS, ids=lambda case: "-".join(map(str, case)))
def test_the_workspace_of_the_forward_is_that_of_the_kernel(case: Case) -> None:
    gradient, x, weight, where = arguments_of(case)
    arguments = (x, weight, None, *where)
    predicted = convolution_workspace(FORWARD, arguments)
    largest = max(gradient.nbytes, x.nbytes, weight.nbytes)
    assert abs(predicted - taken_inside(FORWARD, arguments)) < 0.1 * largest


def test_other_operators_take_nothing() -> None:
    assert convolution_workspace(torch.ops.aten.mm.default, (torch.ones(2, 2),) * 2) == 0
