"""Auxiliary heads: shapes, gradients, bounded size, batches of one."""

from dataclasses import replace

import pytest
import torch

from fxtransport.heads import ConvHead, TokenHead, build_head
from fxtransport.ir import HeadKind, HeadSpec, Layout

FIRST, LAST, VECTOR = Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST, Layout.VECTOR


def conv(channels: int, layout: Layout = FIRST, dims: int = 2, width: int = 8) -> HeadSpec:
    return HeadSpec(HeadKind.CONV, (layout,), (channels,), (0,), dims, width, 10)


def token(layouts: tuple[Layout, ...], channels: tuple[int, ...]) -> HeadSpec:
    return HeadSpec(HeadKind.TOKEN, layouts, channels, tuple(range(len(channels))), 0, 0, 10)


@pytest.mark.parametrize(
    ("spec", "shapes"),
    [
        (conv(6), [(6, 7, 5)]),
        (conv(6), [(6, 1, 2)]),
        (conv(6, LAST), [(7, 5, 6)]),
        (conv(6, dims=1), [(6, 9)]),
        (conv(6, dims=3), [(6, 3, 4, 5)]),
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


def test_the_order_of_a_convolutional_head_is_the_published_one() -> None:
    head = ConvHead(4, 4, 3).eval()
    x = torch.randn(2, 4, 6, 6)
    pooled = torch.nn.functional.avg_pool2d(head.conv(x).relu(), 3)
    assert torch.allclose(head(x), head.linear(head.norm(pooled).flatten(1)))


def test_channels_last_is_the_same_head_permuted() -> None:
    first, last = ConvHead(4, 4, 3).eval(), ConvHead(4, 4, 3, LAST).eval()
    last.load_state_dict(first.state_dict())
    x = torch.randn(2, 4, 6, 5)
    assert torch.equal(first(x), last(x.permute(0, 2, 3, 1)))


def test_tokens_are_normalized_over_channels_then_averaged() -> None:
    head = TokenHead((4,), 3, (FIRST,))
    x = torch.randn(2, 4, 6, 5)
    tokens = x.flatten(2).transpose(1, 2)
    expected = head.linear(torch.nn.functional.layer_norm(tokens, (4,)).mean(1))
    assert torch.allclose(head(x), expected, atol=1e-6)


def test_heads_stay_small_on_wide_maps() -> None:
    with torch.device("meta"):
        head = ConvHead(2048, 256, 1000)
    assert sum(p.numel() for p in head.parameters()) < 6_000_000


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
