"""Blocks are compared with the optimal map between the clouds before and after them."""

from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.ot.clouds import cloud_distance, cloud_movements, mean_optimality
from tests.networks import Net, Plain

MAPS = {"shift": (0.0, 1.0), "mirror": (-2.0, 0.0), "nothing": (0.0, 0.0)}
"""The branch of a block: a multiple of its input, and a constant."""


class Moves(nn.Module):
    """Adds a multiple of its input and a constant."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        scale, shift = MAPS[kind]
        self.linear.weight.data = scale * torch.eye(2)
        self.linear.bias.data.fill_(shift)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.linear(x)
        return x + branch


def movements(kind: str, points: Tensor) -> tuple[float, float, float, float]:
    program = transportify(nn.Sequential(Moves(kind), nn.Linear(2, 2)), points)
    [found] = cloud_movements(program, points)
    assert (found.path, found.block) == ("0", 0)
    return found.displacement, found.distance, found.optimality, found.moved


def test_a_shift_is_optimal() -> None:
    displacement, distance, optimality, moved = movements("shift", torch.randn(30, 2))
    assert displacement == pytest.approx(2**0.5)
    assert distance == pytest.approx(displacement)
    assert (optimality, moved) == (pytest.approx(1), 0)


def test_a_reflection_of_a_symmetric_cloud_is_far_from_optimal() -> None:
    half = torch.randn(15, 2)
    displacement, distance, optimality, moved = movements("mirror", torch.cat([half, -half]))
    assert displacement > 1
    assert (distance, optimality) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))
    assert moved == 1


def test_a_block_that_moves_nothing() -> None:
    assert movements("nothing", torch.randn(9, 2)) == (0, 0, 1, 0)


def test_the_distance_is_the_least_of_all_maps() -> None:
    """In one dimension, sorted points go to sorted points."""
    one, two = torch.randn(50, 1), torch.randn(50, 1) + 0.5
    expected = (one.sort(0).values - two.sort(0).values).square().mean().sqrt()
    assert cloud_distance(one, two) == pytest.approx(float(expected), rel=1e-6)


def test_near_clouds_far_from_the_origin() -> None:
    """A product of matrices in float32 would be off by far more than the way."""
    points = torch.randn(20, 3, dtype=torch.float64) + 1e4
    assert cloud_distance(points, points + 1e-4) == pytest.approx(1e-4 * 3**0.5, rel=1e-6)


def test_identity_blocks_of_a_network(images: Tensor) -> None:
    program = transportify(Net(blocks=3), images).train()
    found = cloud_movements(program, images)
    assert [movement.path for movement in found] == ["blocks.0", "blocks.1", "blocks.2"]
    assert all(0 < movement.distance <= movement.displacement for movement in found)
    assert 0 < mean_optimality(found) <= 1
    assert program.training


def test_layers_where_there_are_no_additions() -> None:
    images = torch.randn(6, 4, 8, 8)
    found = cloud_movements(transportify(Plain(), images), images)
    assert len(found) == 4


def test_there_must_be_something_to_compare() -> None:
    inputs = torch.randn(4, 8)
    program = transportify(nn.Sequential(nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)), inputs)
    with pytest.raises(UsageError, match="no identity block"):
        cloud_movements(program, inputs)
    with pytest.raises(UsageError, match="as many points of one shape"):
        cloud_distance(inputs, inputs[:3])
    with pytest.raises(UsageError, match="not finite"):
        cloud_distance(inputs, inputs / 0)


@pytest.mark.parametrize("p", [1.0, 3.0])
def test_other_powers(p: float) -> None:
    one, two = torch.randn(6, 3), torch.randn(6, 3)
    costs = torch.cdist(one.double(), two.double()) ** p
    expected = min(costs[range(6), list(order)].mean() for order in permutations(range(6)))
    assert cloud_distance(one, two, p=p) == pytest.approx(float(expected) ** (1 / p), rel=1e-6)
    with pytest.raises(UsageError, match=r"at least 1, not 0\.5"):
        cloud_distance(one, two, p=0.5)
    program = transportify(nn.Sequential(Moves("mirror"), nn.Linear(2, 2)), one[:, :2])
    [found] = cloud_movements(program, one[:, :2], p=p)
    lengths = (2 * one[:, :2]).double().norm(dim=1)
    assert found.displacement == pytest.approx(float((lengths**p).mean()) ** (1 / p), rel=1e-6)
    assert found.distance <= found.displacement
