"""What heads cost: the same on the meta device, where it is counted, as on fake tensors."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from fxtransport.analysis.counting import _count_head, count_head
from fxtransport.heads import build_head
from fxtransport.ir import HeadKind, HeadSpec, Layout
from fxtransport.tracing.shadow import shadow_of

FIRST, LAST, VECTOR = Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST, Layout.VECTOR
BATCH, DTYPE, CPU = 5, torch.float32, torch.device("cpu")

heads = pytest.mark.parametrize(
    ("spec", "shapes"),
    [
        *(
            (HeadSpec(kind, (layout,), (channels,), (0,), dims, 6, pooled, 3), shapes)
            for kind, pooled in ((HeadKind.DGL, 0), (HeadKind.CONV, 2), (HeadKind.CONV, 4))
            for layout, channels, dims, shapes in (
                (FIRST, 8, 2, ((8, 7, 7),)),
                (FIRST, 8, 2, ((8, 8, 8),)),
                (LAST, 8, 2, ((7, 7, 8),)),
                (FIRST, 4, 1, ((4, 9),)),
                (FIRST, 4, 3, ((4, 3, 5, 5),)),
            )
        ),
        (HeadSpec(HeadKind.TOKEN, (LAST,), (8,), (0,), num_classes=3), ((9, 8),)),
        (HeadSpec(HeadKind.TOKEN, (FIRST,), (8,), (0,), num_classes=3), ((8, 7, 7),)),
        (HeadSpec(HeadKind.TOKEN, (VECTOR,), (8,), (0,), num_classes=3), ((8,),)),
        (HeadSpec(HeadKind.TOKEN, (LAST, VECTOR), (8, 4), (0, 2), num_classes=3), ((9, 8), (4,))),
    ],
    ids=str,
)


@heads
def test_meta_tensors_cost_what_fake_ones_do(
    spec: HeadSpec, shapes: tuple[tuple[int, ...], ...]
) -> None:
    with FakeTensorMode():
        head = shadow_of(build_head(spec), CPU).train()
        expected = _count_head(head, shapes, BATCH, DTYPE, CPU)
    assert count_head(spec, shapes, BATCH, CPU) == expected


@heads
def test_parameters_and_operations_are_those_of_the_head(
    spec: HeadSpec, shapes: tuple[tuple[int, ...], ...]
) -> None:
    cost, saves = count_head(spec, shapes, BATCH, CPU)
    head = build_head(spec)
    with FlopCounterMode(display=False) as counter:
        head(*(torch.randn(BATCH, *shape) for shape in shapes))
    assert cost.parameters == sum(p.numel() for p in head.parameters())
    assert cost.flops * BATCH == counter.get_total_flops()
    assert len(saves) == len(shapes)


def test_counting_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    count_head(HeadSpec(HeadKind.TOKEN, (VECTOR,), (8,), (0,), num_classes=7), ((8,),), 2, CPU)
    assert torch.equal(torch.get_rng_state(), before)
