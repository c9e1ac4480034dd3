"""The conditional distance does not depend on the order of neurons; plain L2 does."""

import copy

import pytest
import torch
from torch import nn

from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.ot.conditional import conditional_distance
from fxtransport.ot.symmetry import hidden_layers
from tests.ot.nets import NETS, built, randomize, reordered


@pytest.mark.parametrize("name", NETS)
def test_a_copy_in_another_order_is_at_distance_0(name: str) -> None:
    net, inputs = built(name)
    state = reordered(net, hidden_layers(net, inputs))
    found = conditional_distance(net, inputs, state)
    assert found.transport == 0
    assert found.l2 > 0.1
    assert any(layer.moved > 0 for layer in found.layers)
    own = net.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in found.aligned.items())


@pytest.mark.parametrize("name", NETS)
def test_it_is_at_most_the_distance_in_place(name: str) -> None:
    net, inputs = built(name)
    other = copy.deepcopy(net)
    randomize(other)
    found = conditional_distance(net, inputs, other)
    assert 0 < found.transport < found.l2


def test_it_is_the_distance_in_place_where_neurons_keep_theirs() -> None:
    net, inputs = built("convolutions")
    other = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1e-3 * torch.randn_like(parameter))
    found = conditional_distance(net, inputs, other)
    assert found.transport == found.l2 > 0
    assert not any(layer.moved for layer in found.layers)


def test_it_is_symmetric() -> None:
    net, inputs = built("attention")
    other, _ = built("attention")
    there = conditional_distance(net, inputs, other).transport
    assert conditional_distance(other, inputs, net).transport == pytest.approx(there, rel=1e-9)


def test_one_hidden_layer_by_hand() -> None:
    """Three neurons with one incoming and one outgoing weight each."""
    net = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False))
    other = copy.deepcopy(net)
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    moved = points[[1, 2, 0]] + torch.tensor([0.3, 0.4])
    for one, cloud in ((net, points), (other, moved)):
        one[0].weight.data = cloud[:, :1].clone()
        one[2].weight.data = cloud[:, 1:].T.clone()
    found = conditional_distance(net, torch.ones(1, 1), other)
    assert found.transport == pytest.approx(0.5, rel=1e-6)
    assert [(layer.path, layer.neurons, layer.moved) for layer in found.layers] == [("0", 3, 1.0)]


def test_what_no_neuron_owns_counts_too() -> None:
    net, inputs = built("mlp")
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.get_parameter("8.bias").add_(1.0)
    found = conditional_distance(net, inputs, other)
    assert [(layer.path, layer.transport) for layer in found.layers if layer.transport] == [
        ("8", pytest.approx(1.0, rel=1e-6))
    ]
    assert found.transport == pytest.approx((1 / len(found.layers)) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("p", [1.0, 3.0])
@pytest.mark.parametrize("name", NETS)
def test_other_powers_do_not_depend_on_the_order_either(name: str, p: float) -> None:
    net, inputs = built(name)
    state = reordered(net, hidden_layers(net, inputs))
    found = conditional_distance(net, inputs, state, p=p)
    assert found.transport == 0
    assert found.l2 > 0.1
    other = copy.deepcopy(net)
    randomize(other)
    far = conditional_distance(net, inputs, other, p=p)
    assert 0 < far.transport < far.l2


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_powers_by_hand(p: float) -> None:
    """A hidden layer whose neurons move by 1 and 2, and a bias whose entries move by 3 and 4."""
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    other = copy.deepcopy(net)
    net[0].weight.data, net[2].weight.data = torch.tensor([[0.0], [50.0]]), torch.zeros(2, 2)
    other[0].weight.data, other[2].weight.data = torch.tensor([[52.0], [1.0]]), torch.zeros(2, 2)
    other[2].bias.data = net[2].bias.data + torch.tensor([3.0, 4.0])
    found = conditional_distance(net, torch.ones(1, 1), other, p=p)
    assert [layer.transport for layer in found.layers] == [
        pytest.approx(((1 + 2**p) / 2) ** (1 / p), rel=1e-6),
        pytest.approx(((3**p + 4**p) / 2) ** (1 / p), rel=1e-6),
    ]
    assert found.transport == pytest.approx(((1 + 2**p + 3**p + 4**p) / 4) ** (1 / p), rel=1e-6)
    assert (found.p, found.layers[0].moved) == (p, 1.0)
    with pytest.raises(UsageError, match=r"at least 1, not 0\.5"):
        conditional_distance(net, torch.ones(1, 1), other, p=0.5)


def test_a_program_is_as_good_as_its_model() -> None:
    net, inputs = built("convolutions")
    program = transportify(net, inputs)
    found = conditional_distance(program, inputs, net)
    assert (found.transport, found.l2) == (0, 0)
    assert [layer.path for layer in found.layers if layer.hidden] == [
        "1.branch.0",
        "1.branch.3",
        "2.branch.0",
    ]


def test_two_architectures_are_refused() -> None:
    net, inputs = built("mlp")
    with pytest.raises(UsageError, match=r"two architectures .* only one has 0\.bias"):
        conditional_distance(net, inputs, nn.Linear(2, 2))
    other = copy.deepcopy(net)
    other[8] = nn.Linear(6, 4)  # type: ignore[operator]
    with pytest.raises(UsageError, match=r"8\.weight is \(3, 6\) and \(4, 6\)"):
        conditional_distance(net, inputs, other)
