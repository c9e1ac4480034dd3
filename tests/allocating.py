"""What an operator takes from torch's CPU allocator, by the profiler."""

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def taken_inside(func: Any, arguments: tuple[Any, ...]) -> int:
    """The bytes that an operator takes at its peak, beside what it returns."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        returned = func(*arguments)
    kineto = prof.profiler.kineto_results  # type: ignore[union-attr]
    events = [(e.start_ns(), e.nbytes()) for e in kineto.events() if e.name() == "[memory]"]
    now = peak = 0
    for _, size in sorted(events, key=lambda event: event[0]):
        now += size
        peak = max(peak, now)
    outputs = [returned] if isinstance(returned, torch.Tensor) else returned
    return peak - sum(t.untyped_storage().nbytes() for t in outputs if t is not None)
