"""The closed form of a small head's costs, against the head that runs."""

import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fxtransport.analysis.counting import count_head
from fxtransport.analysis.small_heads import small_head_cost
from fxtransport.ir import HeadKind, HeadSpec, Layout


@settings(max_examples=40, deadline=None, phases=(Phase.generate,))
@given(
    st.sampled_from([Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST]),
    st.integers(1, 5),
    st.lists(st.integers(1, 9), min_size=1, max_size=3).filter(lambda sizes: max(sizes) > 1),
    st.integers(1, 6),
    st.integers(2, 5),
    st.integers(1, 4),
    st.sampled_from(["float32", "bfloat16", "float64"]),
    st.integers(1, 3),
    st.sampled_from(["cpu", "cuda"]),
)
def test_it_costs_what_running_it_counts(
    layout: Layout,
    channels: int,
    sizes: list[int],
    width: int,
    pooled: int,
    classes: int,
    dtype: str,
    batch_size: int,
    device: str,
) -> None:
    shape = (channels, *sizes) if layout is Layout.CHANNELS_FIRST else (*sizes, channels)
    spec = HeadSpec(
        HeadKind.CONV, (layout,), (channels,), (0,), len(sizes), width, pooled, classes, dtype
    )
    cost, (is_saved,) = count_head(spec, (shape,), batch_size, torch.device(device))
    assert small_head_cost(spec, shape, batch_size) == (cost, is_saved)
