"""Auxiliary heads: shapes, gradients, bounded size, batches of one."""

from dataclasses import replace

import pytest
import torch

from fxtransport.heads import ConvHead, DglHead, TokenHead, average_windows, build_head
from fxtransport.ir import HeadKind, HeadSpec, Layout

FIRST, LAST, VECTOR = Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST, Layout.VECTOR


def dgl(channels: int, layout: Layout = FIRST, dims: int = 2, width: int = 8) -> HeadSpec:
    return HeadSpec(
        HeadKind.DGL, (layout,), (channels,), (0,), dims=dims, width=width, num_classes=10
    )


def conv(channels: int, layout: Layout = FIRST, dims: int = 2, pooled: int = 2) -> HeadSpec:
    return replace(dgl(channels, layout, dims), kind=HeadKind.CONV, pooled=pooled)


def token(layouts: tuple[Layout, ...], channels: tuple[int, ...]) -> HeadSpec:
    inputs = tuple(range(len(channels)))
    return HeadSpec(HeadKind.TOKEN, layouts, channels, inputs, num_classes=10)


@pytest.mark.parametrize(
    ("spec", "shapes"),
    [
        *(
            (spec, [shape])
            for make in (dgl, conv)
            for spec, shape in (
                (make(6), (6, 7, 5)),
                (make(6), (6, 1, 2)),
                (make(6, LAST), (7, 5, 6)),
                (make(6, dims=1), (6, 9)),
                (make(6, dims=3), (6, 3, 4, 5)),
            )
        ),
        (conv(6, pooled=4), [(6, 8, 16)]),
        (conv(6, pooled=4), [(6, 3, 5)]),
        (token((LAST,), (6,)), [(9, 6)]),
        (token((LAST,), (6,)), [(3, 4, 6)]),
        (token((FIRST,), (6,)), [(6, 3, 4)]),
        (token((FIRST,), (6,)), [(6, 1, 1)]),
        (token((FIRST,), (6,)), [(6, 2, 3, 4)]),
        (token((VECTOR,), (6,)), [(6,)]),
        (token((LAST, FIRST, VECTOR), (6, 3, 4)), [(5, 6), (3, 2, 2), (4,)]),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_logits_and_gradients(
    spec: HeadSpec, shapes: list[tuple[int, ...]], batch: int, training: bool
) -> None:
    head = build_head(spec).train(training)
    hidden = [torch.randn(batch, *s, requires_grad=True) for s in shapes]
    logits = head(*hidden)
    assert logits.shape == (batch, 10)
    logits.square().sum().backward()
    for tensor in (*hidden, *head.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
    assert all(h.grad is not None and h.grad.any() for h in hidden)


def test_the_order_of_dgls_head_is_the_published_one() -> None:
    head = DglHead(4, 4, 3).eval()
    x = torch.randn(2, 4, 6, 6)
    pooled = torch.nn.functional.avg_pool2d(head.conv(x).relu(), 3)
    assert torch.allclose(head(x), head.linear(head.norm(pooled).flatten(1)))


@pytest.mark.parametrize("sizes", [(8, 4), (7, 2), (7, 4), (2, 2), (1, 2), (3, 4), (14, 4)])
def test_windows_are_those_of_adaptive_pooling(sizes: tuple[int, int]) -> None:
    size, count = sizes
    x = torch.randn(2, 3, size, 5, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.adaptive_avg_pool2d(x, (count, 5))
    found = average_windows(x, 2, count)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("size", [8, 14, 7])
@pytest.mark.parametrize("layout", [FIRST, LAST])
def test_a_convolutional_head_saves_less_than_the_map(size: int, layout: Layout) -> None:
    head = ConvHead(6, 4, 3, layout, pooled=2)
    shape = (6, size, size) if layout is FIRST else (size, size, 6)
    hidden = torch.randn(5, *shape, requires_grad=True)
    sizes: dict[int, int] = {}
    kept = []

    def save(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)  # so that its address is not used again
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        head(hidden)
    # the pooled map, and at most six of the width: what convolutions, norms and ReLUs keep
    positions = 5 * 2 * 2
    weights = sum(p.nbytes for p in head.parameters()) + sum(b.nbytes for b in head.buffers())
    assert hidden.untyped_storage().data_ptr() not in sizes
    assert sum(sizes.values()) <= 4 * positions * (6 + 6 * 4) + weights + 1000


@pytest.mark.parametrize("make", [ConvHead, DglHead])
def test_channels_last_is_the_same_head_permuted(make: type[ConvHead | DglHead]) -> None:
    first, last = make(4, 4, 3).eval(), make(4, 4, 3, LAST).eval()
    last.load_state_dict(first.state_dict())
    x = torch.randn(2, 4, 6, 5)
    torch.testing.assert_close(first(x), last(x.permute(0, 2, 3, 1)))


def test_tokens_are_normalized_over_channels_then_averaged() -> None:
    head = TokenHead((4,), 3, (FIRST,))
    x = torch.randn(2, 4, 6, 5)
    tokens = x.flatten(2).transpose(1, 2)
    expected = head.linear(torch.nn.functional.layer_norm(tokens, (4,)).mean(1))
    assert torch.allclose(head(x), expected, atol=1e-6)


def test_heads_stay_small_on_wide_maps() -> None:
    with torch.device("meta"):
        large, small = DglHead(2048, 256, 1000), ConvHead(2048, 64, 1000)
    assert sum(p.numel() for p in large.parameters()) < 6_000_000
    assert sum(p.numel() for p in small.parameters()) < 500_000


@pytest.mark.parametrize("kind", [HeadKind.NONE, HeadKind.MODEL, HeadKind.AUTO])
def test_other_kinds_have_no_module(kind: HeadKind) -> None:
    with pytest.raises(ValueError, match=f"of kind {kind}"):
        build_head(HeadSpec(kind))


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_heads_are_of_the_dtype_that_they_read(dtype: str) -> None:
    for spec, shape in ((conv(6), (3, 6, 7, 5)), (token((LAST,), (6,)), (3, 9, 6))):
        head = build_head(replace(spec, dtype=dtype))
        kind = getattr(torch, dtype)
        assert {p.dtype for p in head.parameters()} == {kind}
        assert head(torch.randn(shape, dtype=kind)).dtype == kind
