"""Planned heads, and the layouts of hidden tensors in the zoo's models."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from fxtransport.analysis.layouts import LayoutFinder
from fxtransport.errors import UsageError
from fxtransport.heads import build_head
from fxtransport.ir import (
    Boundaries,
    Costs,
    HeadKind,
    HeadPlan,
    HeadSpec,
    Layout,
    Origins,
    PartitionPlan,
    Recording,
    Shapes,
)
from fxtransport.models import build, resolve
from fxtransport.passes.heads import PlanHeads, hidden_at
from fxtransport.passes.partition import Partition
from fxtransport.passes.pipeline import run_passes
from fxtransport.unit import Example, Unit

FIRST, LAST, VECTOR = Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST, Layout.VECTOR


def unit_of(model: nn.Module, *shape: int) -> Unit:
    """A unit without costs, which heads do not need."""
    unit = Unit(model.to("meta"), Example((torch.empty(2, *shape, device="meta"),)))
    return unit.with_facts(Costs({}, 1))


def zoo(name: str) -> nn.Module:
    return build(resolve(name), device="meta")


def heads(
    model: nn.Module, shape: Sequence[int], step: PlanHeads, cut: Partition | None = None
) -> tuple[HeadSpec, ...]:
    unit = run_passes(unit_of(model, *shape), [cut or Partition(2), step])
    return unit.fact(HeadPlan).heads


def layouts(unit: Unit) -> set[tuple[Layout, int]]:
    """The layouts and channels at all boundaries."""
    unit = run_passes(unit, [Partition()])
    finder = LayoutFinder(unit.fact(Recording), unit.fact(Origins))
    boundaries = unit.fact(Boundaries)
    return {
        (hidden.layout, hidden.channels)
        for cut in (*boundaries.found, *boundaries.wide)
        for hidden in hidden_at(unit, cut, finder)
    }


CONVNEXT = {(FIRST, c) for c in (96, 192, 384, 768)}
SWIN = {(LAST, c) for c in (96, 192, 384, 768)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm:convnext_tiny", CONVNEXT),
        ("torchvision:convnext_tiny", CONVNEXT),
        ("timm:swin_tiny_patch4_window7_224", SWIN),
        ("torchvision:swin_t", SWIN),
        ("timm:vit_tiny_patch16_224", {(LAST, 192)}),
        ("timm:mixer_s32_224", {(LAST, 512)}),
        ("timm:resmlp_12_224", {(LAST, 384)}),
        ("timm:coatnet_0_rw_224", CONVNEXT),
        ("timm:cait_xxs24_224", {(LAST, 192)}),
        ("timm:poolformer_s12", {(FIRST, c) for c in (64, 128, 320, 512)}),
    ],
)
def test_layouts_in_the_zoo(name: str, expected: set[tuple[Layout, int]]) -> None:
    assert layouts(unit_of(zoo(name), 3, 224, 224)) == expected


def test_layouts_that_change_inside_a_model() -> None:
    found = layouts(unit_of(zoo("timm:maxvit_tiny_tf_224"), 3, 224, 224))
    assert found == {(layout, c) for layout in (FIRST, LAST) for c in (64, 128, 256, 512)}


class Blocks(nn.Module):
    """Residual blocks of one kind, and a head that needs no channels."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x.flatten(1)


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of a B×C×H×W map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Scale(nn.Module):
    """Scales every element by its own parameter."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.tanh() * self.scale


@pytest.mark.parametrize(
    ("block", "shape", "layout"),
    [
        (lambda: nn.Conv2d(4, 4, 3, padding=1), (4, 6, 6), FIRST),
        (lambda: nn.Conv1d(4, 4, 3, padding=1), (4, 6), FIRST),
        (lambda: nn.Conv3d(4, 4, 3, padding=1), (4, 3, 3, 3), FIRST),
        (lambda: nn.GroupNorm(2, 4), (4, 6, 6), FIRST),
        (lambda: LayerNorm2d(4), (4, 6, 6), FIRST),
        (lambda: nn.LayerNorm(4), (6, 6, 4), LAST),
        (lambda: nn.LayerNorm(4), (3, 3, 3, 4), LAST),
        (lambda: nn.Linear(4, 4), (6, 6, 4), LAST),
        (lambda: nn.Linear(4, 4), (6, 4), LAST),
        (lambda: nn.Linear(4, 4), (4,), VECTOR),
        # nothing says where the channels are
        (lambda: Scale(4, 6, 6), (4, 6, 6), FIRST),
        (lambda: Scale(6, 4), (6, 4), LAST),
    ],
)
def test_layouts_of_models_written_by_hand(
    block: type[nn.Module], shape: tuple[int, ...], layout: Layout
) -> None:
    assert layouts(unit_of(Blocks(block(), block(), block()), *shape)) == {(layout, 4)}


def test_what_computed_a_tensor_tells_where_nothing_that_reads_it_does() -> None:
    model = Blocks(nn.Linear(4, 4), Scale(6, 6, 4), Scale(6, 6, 4))
    assert layouts(unit_of(model, 6, 6, 4)) == {(LAST, 4)}


def conv_net(size: int = 4) -> nn.Module:
    return Blocks(*(nn.Conv2d(size, size, 3, padding=1) for _ in range(4)))


def token_net() -> nn.Module:
    return Blocks(*(nn.Linear(4, 4) for _ in range(4)))


def test_a_map_gets_a_convolutional_head_and_the_last_module_the_models() -> None:
    inner, last = heads(conv_net(), (4, 6, 6), PlanHeads())
    assert inner == HeadSpec(HeadKind.CONV, (FIRST,), (4,), (0,), 2, 4, 144)
    assert last.kind is HeadKind.MODEL


@pytest.mark.parametrize(
    ("model", "shape", "head", "kind"),
    [
        (token_net, (9, 4), HeadKind.AUTO, HeadKind.TOKEN),
        (token_net, (3, 3, 4), HeadKind.AUTO, HeadKind.TOKEN),
        (token_net, (3, 3, 4), HeadKind.CONV, HeadKind.CONV),
        (token_net, (4,), HeadKind.AUTO, HeadKind.TOKEN),
        (conv_net, (4, 6, 6), HeadKind.TOKEN, HeadKind.TOKEN),
        (conv_net, (4, 1, 6), HeadKind.AUTO, HeadKind.TOKEN),
        (conv_net, (4, 1, 1), HeadKind.CONV, HeadKind.TOKEN),
        (conv_net, (4, 6, 6), HeadKind.NONE, HeadKind.NONE),
    ],
)
def test_the_kind_of_head(
    model: type[nn.Module], shape: tuple[int, ...], head: HeadKind, kind: HeadKind
) -> None:
    assert heads(model(), shape, PlanHeads(head))[0].kind is kind


def test_the_width_is_bounded_and_classes_can_be_given() -> None:
    inner = heads(conv_net(64), (64, 4, 4), PlanHeads(num_classes=7, width=16))[0]
    assert (inner.width, inner.num_classes) == (16, 7)


def test_planned_heads_read_what_crosses() -> None:
    unit = unit_of(zoo("timm:crossvit_tiny_240"), 3, 240, 240)
    unit = run_passes(unit, [Partition(2), PlanHeads(num_classes=5)])
    spec, segment = unit.fact(HeadPlan).heads[0], unit.fact(PartitionPlan).segments[0]
    assert len(spec.inputs) > 1
    shapes = [unit.fact(Shapes).specs[segment.outputs[i]].shape for i in spec.inputs]
    head = build_head(spec)
    assert head(*(torch.randn(s) for s in shapes)).shape == (2, 5)


@pytest.mark.parametrize(("model", "shape"), [(token_net, (9, 4)), (token_net, (4,))])
def test_no_convolution_over_what_is_no_map(model: type[nn.Module], shape: tuple[int, ...]) -> None:
    text = "×".join(map(str, ("B", *shape)))
    with pytest.raises(UsageError, match=f"{text} crosses the cut after"):
        heads(model(), shape, PlanHeads(HeadKind.CONV))


class Features(Blocks):
    """Returns a map, not logits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).unflatten(1, (-1, 1, 1))


def test_a_model_without_logits_needs_a_number_of_classes() -> None:
    model = Features(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    with pytest.raises(UsageError, match=r"Features returns .* give num_classes"):
        heads(model, (4, 2, 2), PlanHeads())
    assert heads(model, (4, 2, 2), PlanHeads(num_classes=3))[0].num_classes == 3
    assert heads(model, (4, 2, 2), PlanHeads(), Partition(1))[0].kind is HeadKind.MODEL
    assert heads(model, (4, 2, 2), PlanHeads(HeadKind.NONE))[0].kind is HeadKind.NONE


def test_a_cut_that_no_head_can_read() -> None:
    class Swapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.transpose(0, 1)
            x = x + self.one(x)
            x = x + self.two(x)
            return x.mean(0)

    with pytest.raises(UsageError, match="no auxiliary head can read"):
        heads(Swapped(), (9, 4), PlanHeads())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": HeadKind.MODEL}, "only the last module"),
        ({"width": 0}, "at least 1 channel"),
        ({"num_classes": 0}, "at least 1 class"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PlanHeads(**options)  # type: ignore[arg-type]
