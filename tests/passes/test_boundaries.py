"""Where a graph may be cut, and what crosses there."""

import pytest
import torch
from torch import nn

from fxtransport.analysis.blocks import block_regions
from fxtransport.analysis.cut_points import boundary_at
from fxtransport.ir import Boundaries, Boundary
from fxtransport.models import build, resolve
from fxtransport.passes.boundaries import FindBoundaries
from tests.compiling import run_on


class Block(nn.Module):
    """A residual block that ends with an activation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x + self.conv(x))


class TwoStreams(nn.Module):
    """Two tensors run side by side from the input to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.ModuleList(Block() for _ in range(3))
        self.right = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.flip(1)
        for left, right in zip(self.left, self.right, strict=True):
            x, y = left(x), right(y)
        return torch.cat([x, y], 1)


def boundaries(model: nn.Module, *shape: int) -> Boundaries:
    return run_on(model, shape, FindBoundaries()).fact(Boundaries)


def names(found: tuple[Boundary, ...]) -> list[str]:
    return [b.path for b in found]


def test_cuts_fall_between_blocks_and_after_writes() -> None:
    """Not after the sum, which the activation overwrites; not inside a block."""
    found = boundaries(nn.Sequential(Block(), Block(), Block()), 4, 8, 8)
    assert (found.unit, found.units) == ("residual", 3)
    assert names(found.single) == ["0", "1"]
    assert [b.units for b in found.single] == [1, 2]
    assert [b.tensors for b in found.single] == [("_0_act",), ("_1_act",)]
    assert not found.multiple


def test_several_tensors_cross_where_there_is_no_other_place() -> None:
    """Two streams are cut together."""
    found = boundaries(TwoStreams(), 4, 8, 8)
    assert not found.single
    assert {len(b.tensors) for b in found.multiple} == {2}
    assert {b.units for b in found.multiple} == {1, 2, 3, 4, 5}


def test_layers_are_units_where_nothing_is_added() -> None:
    """No cut inside a unit, whose residue needs both of its ends."""
    layers = [m for _ in range(3) for m in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())]
    found = boundaries(nn.Sequential(*layers), 4, 8, 8)
    assert (found.unit, found.units) == ("layer", 3)
    assert names(found.single) == ["1", "3"]


def test_submodules_are_units_where_there_is_neither() -> None:
    """Every place between modules with parameters."""
    found = boundaries(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6), nn.Linear(6, 7)), 4)
    assert (found.unit, found.units) == ("submodule", 3)
    assert names(found.single) == ["0", "1"]


def test_what_crosses_at_a_place_by_hand() -> None:
    """Inside a block the skip crosses too."""
    unit = run_on(nn.Sequential(Block(), Block()), (4, 8, 8), FindBoundaries())
    order = [node.name for node in unit.traced().nodes]
    inside = boundary_at(unit, order.index("_1_conv"))
    assert inside.tensors == ("_0_act", "_1_conv")
    assert not inside.single


@pytest.mark.parametrize(
    ("name", "unit", "units"),
    [
        ("timm:resnet18", "residual", 8),
        ("timm:vit_tiny_patch16_224", "residual", 24),
        ("torchvision:vgg11", "layer", 4),
        ("torchvision:densenet121", "submodule", 14),
    ],
)
def test_real_models(name: str, unit: str, units: int) -> None:
    """Between all units of real models one tensor crosses."""
    found = boundaries(build(resolve(name), device="meta"), 3, 224, 224)
    assert (found.unit, found.units) == (unit, units)
    assert {b.units for b in found.single} | {0, units} == set(range(units + 1))


class Beside(nn.Module):
    """Convolutions run beside residual blocks, and in the graph lie within them."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.flip(1)
        for conv, block in zip(self.convs, self.blocks, strict=True):
            x, y = conv(x), block(y)
        return torch.cat([x, y], 1)


def test_blocks_can_be_kept_whole() -> None:
    unit = run_on(Beside(), (4, 8, 8), FindBoundaries())
    regions = block_regions(unit)
    assert [sorted(r.nodes & {"convs_1", "convs_2"}) for r in regions] == [
        [],
        ["convs_1"],
        ["convs_2"],
    ]
    everywhere = unit.fact(Boundaries)
    assert [b.after for b in everywhere.multiple][1::2] == ["convs_1", "convs_2"]
    apart = run_on(Beside(), (4, 8, 8), FindBoundaries(within_blocks=False)).fact(Boundaries)
    assert apart.multiple == everywhere.multiple[::2]
