"""Costs equal what a real training step and torch's own counter say."""

import gc
from collections.abc import Callable

import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.flop_counter import FlopCounterMode

from fxtransport.errors import UsageError
from fxtransport.ir import Costs, Taps
from fxtransport.passes.costs import CountCosts
from fxtransport.passes.taps import TapResidues
from tests.compiling import run_on

BATCH = 4


class Convolutional(nn.Module):
    """A residual block, with everything in place that can be."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        out += x
        return self.relu(out)


class Transforming(nn.Module):
    """A transformer's block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.project = nn.Linear(8, 24), nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 8))
        self.drop_path = DropPath(0.1)

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.project((q @ k.transpose(1, 2)).softmax(-1) @ v)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def resnet() -> tuple[nn.Module, tuple[int, ...]]:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    stem = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*stem, Convolutional(), Convolutional(), *head), (3, 14, 14)


def transformer() -> tuple[nn.Module, tuple[int, ...]]:
    return nn.Sequential(nn.Linear(6, 8), Transforming(), Transforming(), nn.Linear(8, 3)), (5, 6)


def tied() -> tuple[nn.Module, tuple[int, ...]]:
    linear = nn.Linear(8, 8)
    return nn.Sequential(linear, Transforming(), linear), (5, 8)


MODELS = pytest.mark.parametrize("make", [resnet, transformer, tied])
Make = Callable[[], tuple[nn.Module, tuple[int, ...]]]


def costs_of(model: nn.Module, shape: tuple[int, ...], batch_size: int = BATCH) -> Costs:
    return run_on(model, shape, CountCosts(batch_size)).fact(Costs)


def activation_bytes(costs: Costs) -> int:
    """The bytes of all storages that the nodes save."""
    found = {key: size for cost in costs.nodes.values() for key, size in cost.saved.items()}
    return sum(found.values())


def saved_bytes(model: nn.Module, x: Tensor) -> int:
    """The bytes of the storages, but for parameters and buffers, that a real step saves."""
    kept = [*model.parameters(), *model.buffers()]
    owned = {t.untyped_storage().data_ptr() for t in kept}
    found: dict[int, int] = {}

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept.append(tensor)  # so that its address is not used again
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        model.train()(x)
    return sum(found.values())


@MODELS
@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_activations_are_what_a_real_step_saves(make: Make, batch_size: int) -> None:
    model, shape = make()
    costs = costs_of(model, shape, batch_size)
    assert activation_bytes(costs) == saved_bytes(model, torch.randn(batch_size, *shape))


@MODELS
def test_parameters_count_once(make: Make) -> None:
    model, shape = make()
    costs = costs_of(model, shape)
    found = {name: n for cost in costs.nodes.values() for name, n in cost.parameters.items()}
    assert found == {name: p.numel() for name, p in model.named_parameters()}


@MODELS
def test_flops_are_those_of_torchs_counter(make: Make) -> None:
    model, shape = make()
    costs = costs_of(model, shape)
    counter = FlopCounterMode(display=False)
    with counter:
        model(torch.randn(BATCH, *shape))
    assert sum(cost.flops for cost in costs.nodes.values()) * BATCH == counter.get_total_flops()


@MODELS
def test_a_model_without_memory_costs_the_same(make: Make) -> None:
    model, shape = make()
    expected = costs_of(model, shape)
    found = costs_of(model.to("meta"), shape)
    for name, cost in expected.nodes.items():
        bare = found.nodes[name]
        assert (bare.parameters, bare.flops) == (cost.parameters, cost.flops)
        assert sorted(bare.saved.values()) == sorted(cost.saved.values())


class Caching(nn.Module):
    """Replaces a buffer in its forward, as a table for another size of image."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.table: Tensor
        self.register_buffer("table", torch.zeros(1, 8))

    def forward(self, x: Tensor) -> Tensor:
        self.table = torch.zeros(1, 8, device=x.device)
        return self.linear(x + self.table).tanh()


class Around(nn.Module):
    """A residual block around a module that stays closed."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


def test_a_buffer_that_is_replaced_hides_nothing_that_takes_its_address() -> None:
    model = nn.Sequential(*(Around(Caching()) for _ in range(12)), nn.Linear(8, 3))
    expected = saved_bytes(model, torch.randn(BATCH, 5, 8))
    for _ in range(3):
        assert activation_bytes(costs_of(model, (5, 8))) == expected


def test_every_node_has_its_share() -> None:
    model, shape = resnet()
    costs = costs_of(model, shape)
    conv = costs.nodes["_4_conv1"]
    assert conv.parameters == {"4.conv1.weight": 4 * 4 * 9, "4.conv1.bias": 4}
    assert conv.flops == 2 * 6 * 6 * 4 * 4 * 9
    assert sum(conv.saved.values()) == 4 * BATCH * 4 * 6 * 6  # its input, in float32
    assert costs.nodes["_4_relu"].flops == 0


def test_nodes_that_passes_added_cost_nothing() -> None:
    """Whether costs are counted before the residues are tapped or after."""
    layers = [layer for _ in range(3) for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())]
    for model, shape in (resnet(), transformer(), (nn.Sequential(*layers), (4, 6, 6))):
        before = run_on(model, shape, CountCosts(BATCH), TapResidues())
        after = run_on(model, shape, TapResidues(), CountCosts(BATCH))
        assert not before.fact(Costs).nodes.keys() & before.fact(Taps).added
        assert before.fact(Costs).nodes.keys() == after.fact(Costs).nodes.keys()
        for count in (activation_bytes, lambda costs: sum(c.flops for c in costs.nodes.values())):
            assert count(before.fact(Costs)) == count(after.fact(Costs))


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1, not 0"):
        CountCosts(0)


def test_nothing_that_was_counted_stays_in_memory() -> None:
    def fake() -> int:
        gc.collect()
        return sum(type(thing) is FakeTensor for thing in gc.get_objects())

    before = fake()
    run_on(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()), (4,), CountCosts())
    assert fake() <= before
