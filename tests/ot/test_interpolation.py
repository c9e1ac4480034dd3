"""The way between two trained networks, with and without aligned neurons."""

import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fxtransport.errors import UsageError
from fxtransport.ot.conditional import conditional_distance
from fxtransport.ot.interpolation import Batch, barrier, interpolate, losses_along


def digits() -> Batch:
    found = load_digits()
    inputs = torch.tensor(found.data, dtype=torch.float32) / 16
    return inputs, torch.tensor(found.target)


def trained(seed: int, data: Batch, steps: int = 150) -> nn.Sequential:
    """A wide perceptron, trained on the digits from its own beginning."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(data[0]), data[1]).backward()
        optimizer.step()
    return net


def test_aligned_neurons_lower_the_barrier() -> None:
    data = digits()
    one, two = (trained(seed, data) for seed in (0, 1))
    found = conditional_distance(one, data[0][:2], two)
    assert found.transport < found.l2
    state = one.state_dict()
    naive = losses_along(one, state, two.state_dict(), [data], points=5)
    aligned = losses_along(one, state, found.aligned, [data], points=5)
    assert aligned[0] == naive[0] < 0.2
    # the other network computes the same in another order
    assert aligned[-1] == pytest.approx(naive[-1], rel=1e-3)
    assert barrier(naive) > 0.1
    assert barrier(aligned) < 0.5 * barrier(naive)


def test_statistics_are_taken_again() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    state = copy.deepcopy(net.state_dict())
    batch = torch.randn(50, 3) + 5, torch.zeros(50, dtype=torch.int64)
    stale = losses_along(net, state, state, [batch], points=2)
    renewed = losses_along(net, state, state, [batch], points=2, statistics=[batch])
    expected = nn.functional.cross_entropy(net.train()(batch[0]), batch[1])
    assert renewed[0] == pytest.approx(expected.item(), rel=0.05)
    assert stale[0] != pytest.approx(renewed[0])


def test_ends_of_the_way() -> None:
    one = {"w": torch.randn(3), "n": torch.tensor(1)}
    two = {"w": torch.randn(3), "n": torch.tensor(5)}
    for share, end in ((0.0, one), (1.0, two)):
        found = interpolate(one, two, share)
        assert all(torch.equal(tensor, end[name]) for name, tensor in found.items())


def test_a_way_needs_points_and_a_loss() -> None:
    net = nn.Linear(2, 2)
    state, batch = net.state_dict(), (torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(UsageError, match="at least 2 points"):
        losses_along(net, state, state, [batch], points=1)

    class Pair(nn.Linear):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            y = super().forward(x)
            return y, y

    with pytest.raises(UsageError, match="no logits"):
        losses_along(Pair(2, 2), state, state, [batch])


def test_a_way_below_the_line_has_no_barrier() -> None:
    assert barrier([1.0, 0.5, 1.0]) == 0
    assert barrier([2.0, 2.0, 0.0]) == 1
