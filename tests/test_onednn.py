"""What convolutions take, against the CPU allocator."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from fxtransport.onednn import convolution_workspace

BACKWARD = torch.ops.aten.convolution_backward.default


def taken(arguments: tuple[object, ...]) -> int:
    """The bytes that a backward takes beside what it returns, by the profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        returned = BACKWARD(*arguments)
    kineto = prof.profiler.kineto_results  # type: ignore[union-attr]
    events = [(e.start_ns(), e.nbytes()) for e in kineto.events() if e.name() == "[memory]"]
    now = peak = 0
    for _, size in sorted(events, key=lambda event: event[0]):
        now += size
        peak = max(peak, now)
    return peak - sum(t.untyped_storage().nbytes() for t in returned if t is not None)


@pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="another processor has other kernels",
)
@pytest.mark.parametrize(
    ("kernel", "groups"), [(1, 1), (3, 1), (3, 4), (3, 8), (3, 16), (7, 32), (3, 64)]
)
@pytest.mark.parametrize("last", [False, True])
def test_the_workspace_is_that_of_the_kernel(kernel: int, groups: int, last: bool) -> None:
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(4, 64, 32, 32).to(memory_format=layout)
    weight = torch.randn(64, 64 // groups, kernel, kernel)
    where = ((1, 1), (kernel // 2,) * 2, (1, 1), False, (0, 0), groups)
    arguments = (torch.randn_like(x), x, weight, (64,), *where, (True, True, True))
    predicted = convolution_workspace(BACKWARD, arguments)
    assert abs(predicted - taken(arguments)) < 0.1 * x.nbytes


def test_other_operators_take_nothing() -> None:
    assert convolution_workspace(torch.ops.aten.mm.default, (torch.ones(2, 2),) * 2) == 0
