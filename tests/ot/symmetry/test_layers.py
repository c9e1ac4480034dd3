"""Hidden layers are found in any network, and their neurons can change places."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fxtransport.errors import VerificationError
from fxtransport.ot.symmetry import hidden_layers
from fxtransport.ot.symmetry.layers import check_layers
from tests.ot.nets import NETS, Mean, Residual, built, randomize, reordered

LAYERS: dict[str, list[tuple[str, int]]] = {
    "mlp": [("0", 9), ("3", 7), ("5", 6)],
    "convolutions": [("1.branch.0", 5), ("1.branch.3", 4), ("2.branch.0", 8)],
    "attention": [("1.attn.qkv", 3), ("1.mlp.fc1", 48)],
    "torch attention": [("1.self_attn", 3), ("1.linear1", 10)],
    "gated": [("1.mlp.fc1", 12), ("3.fc1", 10)],
}


@pytest.mark.parametrize("name", NETS)
def test_the_hidden_layers(name: str) -> None:
    net, inputs = built(name)
    layers = hidden_layers(net, inputs)
    assert [(layer.path, layer.neurons) for layer in layers] == LAYERS[name]


@pytest.mark.parametrize("name", NETS)
def test_another_order_computes_the_same(name: str) -> None:
    net, inputs = built(name)
    state = reordered(net, hidden_layers(net, inputs))
    torch.testing.assert_close(functional_call(net, state, (inputs,)), net(inputs))
    present = net.state_dict()
    assert any(not torch.equal(tensor, present[name]) for name, tensor in state.items())


def test_a_neuron_owns_what_belongs_to_it() -> None:
    net, inputs = built("mlp")
    first = hidden_layers(net, inputs)[0]
    vectors = {("1.bias", 0), ("1.weight", 0), ("1.running_mean", 0), ("1.running_var", 0)}
    assert first.owned == {("0.weight", 0), ("0.bias", 0), ("3.weight", 1), *vectors}


def test_a_head_owns_queries_keys_values_and_columns() -> None:
    net, inputs = built("attention")
    heads = hidden_layers(net, inputs)[0]
    values, queries = heads.families
    assert values.shape == queries.shape == (3, 4)
    rows = {slot.name: slot.index for slot in values.slots}
    assert rows["1.attn.proj.weight"].tolist() == torch.arange(12).reshape(3, 4).tolist()
    assert rows["1.attn.qkv.weight"].tolist() == torch.arange(24, 36).reshape(3, 4).tolist()
    pairs = [slot.index[0, 0].item() for slot in queries.slots if slot.name.endswith("weight")]
    assert sorted(pairs) == [0, 12]


def test_the_bias_of_positions_goes_with_its_head() -> None:
    net = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=28, embed_dim=12, depths=(2,), num_heads=(3,)
    )
    randomize(net)
    heads = hidden_layers(net, torch.randn(1, 3, 28, 28))[0]
    owned = {name.rpartition(".")[2] for name, _ in heads.owned}
    assert "relative_position_bias_table" in owned


class Rotated(nn.Module):
    """Multiplies channels by numbers that are not its own, so that they keep their order."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.arange(x.shape[-1]).to(x)


class Halves(nn.Module):
    """Treats one half of its channels in another way than the other."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :4].relu(), x[:, 4:].tanh()], 1)


class Mirrored(nn.Module):
    """Adds its channels in the opposite order."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.flip(1)


class Sorted(nn.Module):
    """An operation that is not known."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sort(1).values


@pytest.mark.parametrize(
    ("middle", "sizes"),
    [(Rotated(), []), (Halves(), [4, 4]), (Mirrored(), [4]), (Sorted(), []), (nn.ReLU(), [8])],
)
def test_what_is_not_alike_is_not_exchanged(middle: nn.Module, sizes: list[int]) -> None:
    net = nn.Sequential(nn.Linear(3, 8), middle, nn.Linear(8, 2))
    inputs = torch.randn(4, 3)
    layers = hidden_layers(net, inputs)
    assert [layer.neurons for layer in layers] == sizes
    state = reordered(net, layers)
    torch.testing.assert_close(functional_call(net, state, (inputs,)), net(inputs))


def test_the_residual_stream_keeps_its_order() -> None:
    net = nn.Sequential(nn.Linear(3, 6), Residual(nn.Linear(6, 6), nn.ReLU()), nn.Linear(6, 2))
    assert hidden_layers(net, torch.randn(2, 3)) == ()


def test_rotary_heads_only_exchange_values() -> None:
    options: dict[str, Any] = {"img_size": 28, "depth": 1, "embed_dim": 24, "num_heads": 2}
    net = timm.create_model("eva02_tiny_patch14_224", **options)
    randomize(net)
    inputs = torch.randn(1, 3, 28, 28)
    heads, *_ = hidden_layers(net, inputs)
    assert heads.ordered
    assert [family.shape for family in heads.families] == [(2, 12)]


def test_grouped_channels_keep_their_order() -> None:
    middle = nn.Conv2d(8, 8, 3, groups=2, padding=1)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), middle, nn.Conv2d(8, 4, 1), Mean())
    assert hidden_layers(net, torch.randn(1, 3, 4, 4)) == ()


def test_modes_are_as_before() -> None:
    net, inputs = built("mlp")
    net.train()
    net[1].eval()  # type: ignore[index, operator]
    hidden_layers(net, inputs)
    assert [module.training for module in net.children()][:3] == [True, False, True]


def test_a_layer_that_cannot_be_exchanged_is_named() -> None:
    net, inputs = built("mlp")
    layers = hidden_layers(net, inputs)
    net[4] = Rotated()  # type: ignore[operator]
    with pytest.raises(VerificationError) as raised:
        check_layers(net, inputs, layers)
    assert str(raised.value) == (
        "reordering the neurons of 3 changes what the network computes: leave them in their "
        "order, keep=['3']"
    )
