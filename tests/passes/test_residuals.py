"""Residual additions found by dataflow: where a branch may start, and what does not count."""

import pytest
import torch
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.ir import RecordedAdditions
from fxtransport.passes.residuals import FindResiduals
from tests.compiling import assert_identical, run_on


class Output(nn.Module):
    """Is given the branch so far and the skip, and computes too, as in BERT."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(16, 8)
        self.norm = nn.LayerNorm(8) if norm else nn.Identity()

    def forward(self, hidden: Tensor, skip: Tensor) -> Tensor:
        return self.norm(self.dense(hidden) + skip)


class Layer(nn.Module):
    """Adds in its output module, or itself."""

    def __init__(self, norm: bool, where: str) -> None:
        super().__init__()
        self.where = where
        self.up, self.output = nn.Linear(8, 16), Output(norm)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.up(x).relu()
        if self.where == "output":
            return self.output(hidden, x)
        return self.output.norm(self.output.dense(hidden) + x)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("where", ["output", "layer"])
def test_the_module_that_adds_may_compute(where: str, norm: bool) -> None:
    model = nn.Sequential(*(Layer(norm, where) for _ in range(4)), nn.Linear(8, 3))
    x = torch.randn(2, 8)
    program = transportify(model, x)
    inside = ".output" if where == "output" else ""
    assert [(r.path, r.kind) for r in program.facts.residuals] == [
        (f"{k}{inside}", "identity") for k in range(4)
    ]
    found = program.transport(x).residues
    for k, layer in enumerate(model[:4]):
        assert_identical(found[k], layer.output.dense(layer.up(x).relu()))
        x = layer(x)


def found_in(model: nn.Module, *shape: int) -> list[tuple[str, str]]:
    found = run_on(model, shape, FindResiduals()).fact(RecordedAdditions).found
    return [(a.path, str(a.kind)) for a in found if a.tapped]


class Up(nn.Module):
    """Adds a map of the encoder to what it makes of a coarser one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return self.conv(nn.functional.interpolate(coarse, scale_factor=2)).relu() + fine


class Decoder(nn.Module):
    """Fuses the maps of an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.ups = nn.ModuleList([Up(), Up()])

    def forward(self, *maps: Tensor) -> Tensor:
        x = maps[-1]
        for up, fine in zip(self.ups, maps[-2::-1], strict=True):
            x = up(x, fine)
        return x


class Pyramid(nn.Module):
    """An encoder whose maps a decoder adds."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Conv2d(4, 4, 3, 2, 1) for _ in range(3)])
        self.decoder = Decoder()

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for stage in self.stages:
            x = stage(x).relu()
            maps.append(x)
        return self.decoder(*maps)


def test_the_maps_of_a_pyramid_are_no_skips() -> None:
    """Its decoder is given both operands: what lies before it is not looked at."""
    assert found_in(Pyramid(), 4, 32, 32) == []


class Positions(nn.Module):
    """Adds position embeddings, which it shares with others, to what it computes."""

    def __init__(self, positions: nn.Parameter) -> None:
        super().__init__()
        self.positions, self.linear = positions, nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).relu() + self.positions.expand(x.shape)


def test_a_parameter_that_is_added_again_is_no_skip() -> None:
    positions = nn.Parameter(torch.randn(1, 8))
    assert found_in(nn.Sequential(Positions(positions), Positions(positions)), 8) == []


class Through(nn.Module):
    """Adds what it is given to itself."""

    def forward(self, branch: Tensor, skip: Tensor) -> Tensor:
        return branch + skip


class Deep(nn.Module):
    """The module that adds is inside the one that computes, and both are given the skip."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.add = nn.Linear(16, 8), Through()

    def forward(self, hidden: Tensor, skip: Tensor) -> Tensor:
        return self.add(self.dense(hidden), skip)


def test_a_module_that_only_adds_may_stand_between() -> None:
    layer = Layer(False, "output")
    layer.output = Deep()  # type: ignore[assignment]
    assert found_in(nn.Sequential(layer, nn.Linear(8, 3)), 8) == [("0.output.add", "identity")]
