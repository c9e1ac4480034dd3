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


class Mixes(nn.Module):
    """Attends to another stream after a norm, as a decoder does."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm, self.after = after, nn.LayerNorm(8)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x = self.norm(x + self.first(x).relu())
        weights = (x @ memory.transpose(-2, -1)).softmax(-1)
        return self.after(x + self.second(weights @ memory))


class Translates(nn.Module):
    """An encoder, and decoders that attend to what it makes."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.encoder, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
        self.layers = nn.ModuleList([Mixes(after), Mixes(after)])

    def forward(self, x: Tensor) -> Tensor:
        memory = self.encoder(x).relu()
        for layer in self.layers:
            x = layer(x, memory)
        return self.last(x)


@pytest.mark.parametrize("after", [nn.LayerNorm(8), nn.GroupNorm(1, 5), nn.Identity()])
def test_cross_attention_after_a_norm(after: nn.Module) -> None:
    assert found_in(Translates(after), 5, 8) == [
        (f"layers.{k}", "identity") for k in range(2) for _ in range(2)
    ]


class Scales(Output):
    """Is given the branch so far, and scales the skip."""

    def __init__(self) -> None:
        super().__init__(norm=False)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, hidden: Tensor, skip: Tensor) -> Tensor:
        return self.dense(hidden) + skip * self.scale * 0.5


def test_the_module_that_adds_may_scale_the_skip() -> None:
    layers = [Layer(False, "output") for _ in range(2)]
    for layer in layers:
        layer.output = Scales()
    model = nn.Sequential(*layers, nn.Linear(8, 3))
    assert found_in(model, 8) == [(f"{k}.output", "projection") for k in range(2)]


class Fourier(nn.Module):
    """Mixes tokens by a transform that has no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.fft.fft2(x).real


class Averages(nn.Module):
    """Adds a mean, which mixes nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mean(1, keepdim=True)


def test_fourier_transforms_are_branches() -> None:
    model = nn.Sequential(Fourier(), Averages(), Fourier(), nn.Linear(8, 3))
    assert found_in(model, 5, 8) == [("0", "identity"), ("2", "identity")]


class Widens(nn.Module):
    """Pads the skip with zeros, which are made like it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(4, 8, 3, 2, 1), nn.AvgPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.pool(x)
        return self.conv(x).relu() + torch.cat((skip, torch.zeros_like(skip)), 1)


def test_a_skip_may_be_padded_with_zeros() -> None:
    model = nn.Sequential(Widens(), nn.Flatten(), nn.Linear(128, 3))
    assert found_in(model, 4, 8, 8) == [("0", "projection")]


class Gates(nn.Module):
    """Adds logits of a gate, or of attention, in a branch."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.up, self.down, self.mix = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.up(x).relu()
        if self.how == "gate":
            branch = (inner + self.down(inner)).sigmoid() * inner
        elif self.how == "attention":
            logits = inner @ inner.transpose(-2, -1)
            weights = (logits + self.mix(logits).tanh()).masked_fill(logits < -9, -9.0).softmax(-1)
            branch = nn.functional.dropout(weights, 0.1, self.training) @ inner
        else:
            inner = inner + self.down(inner).relu()
            branch = inner * inner.sigmoid()
        return x + branch


@pytest.mark.parametrize(("how", "count"), [("gate", 1), ("attention", 1), ("activation", 2)])
def test_sums_that_only_weigh_are_inner(how: str, count: int) -> None:
    model = nn.Sequential(Gates(how), nn.Linear(8, 3))
    assert found_in(model, 5, 8) == [("0", "identity")] * count


class Reconstructs(nn.Module):
    """Returns what it reconstructs, and by how much it errs."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.code = how, nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        made = self.code(x)
        if self.how == "residual":
            return x - made
        if self.how == "absolute":
            return made, nn.functional.l1_loss(x, made, reduction="none").mean(-1)
        return made, (x - made).square().mean(-1)


@pytest.mark.parametrize(("how", "count"), [("residual", 1), ("absolute", 0), ("squared", 0)])
def test_errors_are_no_residuals(how: str, count: int) -> None:
    assert len(found_in(Reconstructs(how), 8)) == count
