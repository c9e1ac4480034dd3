"""Planned heads, and the layouts of hidden tensors in the zoo's models."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from fxtransport import transportify
from fxtransport.analysis.hidden import hidden_at
from fxtransport.analysis.layouts import LayoutFinder
from fxtransport.errors import UsageError
from fxtransport.heads import build_head
from fxtransport.ir import (
    Boundaries,
    Costs,
    HeadKind,
    HeadPlan,
    Heads,
    HeadSpec,
    Layout,
    Origins,
    PartitionPlan,
    Recording,
    Shapes,
)
from fxtransport.models import build, resolve
from fxtransport.passes.base import Pass
from fxtransport.passes.boundaries import FindBoundaries
from fxtransport.passes.heads import PlanHeads
from fxtransport.passes.partition import Partition
from fxtransport.passes.pipeline import run_passes
from fxtransport.unit import Example, Unit

FIRST, LAST, VECTOR = Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST, Layout.VECTOR


def unit_of(model: nn.Module, *shape: int) -> Unit:
    """A unit on the meta device, whose nodes cost nothing."""
    unit = Unit(model.to("meta"), Example((torch.empty(2, *shape, device="meta"),)))
    return unit.with_facts(Costs({}, 1))


def zoo(name: str) -> nn.Module:
    return build(resolve(name), device="meta")


def heads(
    model: nn.Module, shape: Sequence[int], step: PlanHeads, *cuts: Pass
) -> tuple[HeadSpec, ...]:
    unit = run_passes(unit_of(model, *shape), [*(cuts or [Partition(2)]), step])
    return unit.fact(HeadPlan).heads


def layouts(unit: Unit) -> set[tuple[Layout, int]]:
    """The layouts and channels at all boundaries."""
    unit = run_passes(unit, [FindBoundaries()])
    finder = LayoutFinder(unit.traced(), unit.fact(Recording), unit.fact(Origins))
    return {
        (hidden.layout, hidden.channels)
        for cut in unit.fact(Boundaries).legal
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
        ("torchvision:swin_t", SWIN | {(FIRST, 768), (VECTOR, 768)}),
        ("timm:vit_tiny_patch16_224", {(LAST, 192), (VECTOR, 192)}),
        ("timm:mixer_s32_224", {(LAST, 512), (VECTOR, 512)}),
        ("timm:resmlp_12_224", {(LAST, 384), (VECTOR, 384)}),
        ("timm:coatnet_0_rw_224", CONVNEXT | {(FIRST, 64)}),
        ("timm:cait_xxs24_224", {(LAST, 192), (VECTOR, 192)}),
        ("timm:poolformer_s12", {(FIRST, c) for c in (64, 128, 320, 512)} | {(VECTOR, 512)}),
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


def test_a_map_gets_a_convolutional_head_and_the_last_part_the_models() -> None:
    inner, last = heads(conv_net(), (4, 6, 6), PlanHeads())
    size = {"dims": 2, "width": 8, "pooled": 2, "num_classes": 144}
    assert inner == HeadSpec(HeadKind.CONV, (FIRST,), (4,), (0,), **size)
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
        (conv_net, (4, 6, 6), HeadKind.DGL, HeadKind.DGL),
        (conv_net, (4, 1, 6), HeadKind.DGL, HeadKind.TOKEN),
        (conv_net, (4, 1, 6), HeadKind.DGL_CONV, HeadKind.DGL),
        (token_net, (9, 4), HeadKind.DGL, HeadKind.TOKEN),
        (token_net, (3, 3, 4), HeadKind.DGL, HeadKind.TOKEN),
        (token_net, (3, 3, 4), HeadKind.DGL_CONV, HeadKind.DGL),
    ],
)
def test_the_kind_of_head(
    model: type[nn.Module], shape: tuple[int, ...], head: HeadKind, kind: HeadKind
) -> None:
    assert heads(model(), shape, PlanHeads(head))[0].kind is kind


def test_the_width_is_bounded_and_classes_can_be_given() -> None:
    def width(size: int, **options: Any) -> int:
        inner = heads(conv_net(size), (size, 4, 4), PlanHeads(num_classes=7, **options))[0]
        assert inner.num_classes == 7
        return inner.width

    assert width(64, head=HeadKind.DGL, head_width=16) == 16
    assert width(64, head=HeadKind.DGL) == 64
    assert width(300, head=HeadKind.DGL) == 256
    assert width(64, head_width=5) == 5


def sizes(share: float, side: int = 8, **options: Any) -> set[tuple[int, int]]:
    """Sizes of the heads of a network, each within a share of its part's FLOPs and bytes."""
    options = {"modules": 4, "head_budget": share, "num_classes": 3, "verify": False, **options}
    facts = transportify(conv_net(32), torch.zeros(2, 32, side, side), **options).facts
    found = set()
    for head, cost, part in zip(
        facts.heads.heads[:-1], facts.heads.costs, facts.partition.segments, strict=False
    ):
        found.add((head.pooled, head.width))
        if (head.pooled, head.width) != (2, 8):
            assert 100 * cost.flops <= share * part.flops
            assert 100 * cost.activation_bytes <= 2 * share * part.activation_bytes
    return found


def test_heads_are_as_large_as_their_budget_allows() -> None:
    assert sizes(0) == sizes(0.01) == {(2, 8)}
    assert sizes(1e6) == {(4, 64)}
    assert sizes(1e6, side=3) == {(2, 32)}
    assert sizes(1e6, head_width=32) == {(4, 32)}
    assert sizes(20) not in ({(2, 8)}, {(4, 64)})
    # by hand, parts are of any size
    two = {"modules": 1, "cuts": ("add", "add_2")}
    assert len(sizes(10, **two)) == 2


def test_planned_heads_read_what_crosses() -> None:
    unit = unit_of(zoo("timm:crossvit_tiny_240"), 3, 240, 240)
    unit = run_passes(unit, [Partition(2), PlanHeads(num_classes=5)])
    spec, segment = unit.fact(HeadPlan).heads[0], unit.fact(PartitionPlan).segments[0]
    assert len(spec.inputs) > 1
    shapes = [unit.fact(Shapes).specs[segment.outputs[i]].shape for i in spec.inputs]
    head = build_head(spec)
    assert head(*(torch.randn(s) for s in shapes)).shape == (2, 5)


@pytest.mark.parametrize(("model", "shape"), [(token_net, (9, 4)), (token_net, (4,))])
def test_no_convolution_over_what_is_not_a_map(
    model: type[nn.Module], shape: tuple[int, ...]
) -> None:
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
        ({"head": HeadKind.MODEL}, "only the last part"),
        ({"head_width": 0}, "at least 1 channel"),
        ({"num_classes": 0}, "at least 1 class"),
        ({"head_budget": -1.0}, "0 or more, not -1.0"),
        ({"head_budget": float("inf")}, "0 or more, not inf"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PlanHeads(**options)  # type: ignore[arg-type]


def test_every_boundary_has_a_head_before_the_partition() -> None:
    unit = run_passes(unit_of(conv_net(), 4, 6, 6), [PlanHeads()])
    legal = unit.fact(Boundaries).legal
    assert len(legal) >= 3
    assert unit.fact(Heads).planned.keys() == {b.after for b in legal}
    assert not unit.has(PartitionPlan)


def test_why_there_can_be_no_head_is_known_at_each_boundary() -> None:
    unit = run_passes(unit_of(token_net(), 9, 4), [PlanHeads(HeadKind.CONV)])
    assert not unit.fact(Heads).planned
    assert all("B×9×4 crosses the cut" in why for why in unit.fact(Heads).refused.values())


class Mixed(nn.Module):
    """A map, then a vector, to which residual blocks add."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.vectors = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.maps:
            x = x + layer(x).relu()
        x = x.mean((2, 3))
        for layer in self.vectors:
            x = x + layer(x).relu()
        return x


def test_no_boundary_is_chosen_without_a_head_of_the_kind_asked_for() -> None:
    """Equal depth would cut between the vectors, which no convolution can read."""
    shape = (4, 6, 6)
    unit = run_passes(unit_of(Mixed(), *shape), [Partition(2), PlanHeads(HeadKind.NONE)])
    assert unit.fact(PartitionPlan).cuts[0].units == 3
    unit = run_passes(unit_of(Mixed(), *shape), [Partition(2), PlanHeads(HeadKind.CONV)])
    assert unit.fact(PartitionPlan).cuts[0].units == 2
    with pytest.raises(UsageError, match="a convolutional head reads one map, and B×4 crosses"):
        run_passes(unit_of(Mixed(), *shape), [Partition(4), PlanHeads(HeadKind.CONV)])


def test_a_cut_by_hand_has_a_head_or_is_refused() -> None:
    by_hand = FindBoundaries(cuts=("add_1",))
    found = heads(conv_net(), (4, 6, 6), PlanHeads(), by_hand, Partition())
    assert [spec.kind for spec in found] == [HeadKind.CONV, HeadKind.MODEL]
    with pytest.raises(UsageError, match="B×9×4 crosses the cut after add_1"):
        heads(token_net(), (9, 4), PlanHeads(HeadKind.CONV), by_hand, Partition())


@pytest.mark.parametrize(("model", "shape"), [(conv_net, (4, 6, 6)), (token_net, (9, 4))])
@pytest.mark.parametrize("kind", [HeadKind.AUTO, HeadKind.TOKEN, HeadKind.DGL])
def test_a_part_with_its_head_costs_what_a_real_step_saves(
    model: Callable[[], nn.Module], shape: tuple[int, ...], kind: HeadKind
) -> None:
    batch = 3
    net = model()
    program = transportify(
        net, torch.zeros(2, *shape), modules=2, head=kind, batch_size=batch, verify=False
    )
    plan, head = program.facts.partition, program.facts.heads.costs[0]
    part, module = program.parts[0].train(), program.parts[0].auxiliary_head
    assert module is not None
    assert head.parameters == sum(p.numel() for p in module.parameters())
    owned = {t.untyped_storage().data_ptr() for t in [*part.parameters(), *part.buffers()]}
    saved: dict[int, int] = {}
    kept = []

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept.append(tensor)  # so that its address is not used again
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        part(torch.randn(batch, *shape), measure=None)
    assert plan.segments[0].activation_bytes + head.activation_bytes == sum(saved.values())


class Scaled(nn.Module):
    """Scales by the mean of its input, which therefore crosses every cut."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for block in self.blocks:
            y = y + block(y)
        return (y * x.mean()).mean((2, 3))


@pytest.mark.parametrize(
    ("kind", "read", "found"),
    [
        (HeadKind.AUTO, (1,), HeadKind.CONV),
        (HeadKind.CONV, (1,), HeadKind.CONV),
        (HeadKind.DGL, (0, 1), HeadKind.TOKEN),
        (HeadKind.TOKEN, (0, 1), HeadKind.TOKEN),
    ],
)
def test_an_input_of_the_model_tells_nothing(
    kind: HeadKind, read: tuple[int, ...], found: HeadKind
) -> None:
    inner = heads(Scaled(), (4, 6, 6), PlanHeads(head=kind, num_classes=3))[0]
    assert (inner.inputs, inner.kind) == (read, found)
