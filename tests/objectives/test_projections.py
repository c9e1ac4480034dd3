"""The cost of blocks that change the dimension: by hand, its gradient, and what it ignores."""

from collections.abc import Callable
from typing import Any

import numpy as np
import ot as pot
import pytest
import torch
from torch import Tensor, nn

from fxtransport import Program, transportify
from fxtransport.errors import UsageError
from fxtransport.ir import Block, BlockInput, Kind, Layout
from fxtransport.objectives import ProjectionCost, TransportCost
from fxtransport.residue import Ends, Reduction, Residue
from tests.end_to_end.plain import Net, PostActivation, PreActivation

IMAGES = torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
METHODS = ("soft-matching", "gromov-wasserstein")


def net_of(block: type[PreActivation | PostActivation] = PostActivation) -> Net:
    """Three identity blocks and a projection, the third, in float64."""
    torch.manual_seed(0)
    return Net(block, downsampling=True).train().double()


def program_of(net: nn.Module, **options: Any) -> Program:
    example = torch.zeros(2, 2, 6, 6, dtype=torch.float64)
    return transportify(net, example, projection_inputs=True, verify=False, **options)


def ends_of(net: Net) -> tuple[Tensor, Tensor]:
    """x_m and x_{m+1} of the projection."""
    x = net.stem(IMAGES)
    for block in net.blocks[:2]:
        x = block(x)
    block = net.blocks[2]
    assert isinstance(block, PreActivation | PostActivation)
    return x, block.values(x).output


def residue_of(x: Tensor, y: Tensor, channels: tuple[int, int] = (1, 1)) -> Residue:
    ends = Ends(x, channels[0], y, channels[1])
    return Residue(Kind.PROJECTION, (y,), y, y, ends=ends)


def matching(x: Tensor, y: Tensor, p: float) -> float:
    """Between n×d and n×d' points."""
    costs = (torch.cdist(x.T, y.T).detach().numpy() / len(x) ** 0.5) ** p
    return float(pot.emd2([], [], costs))


def gromov(x: Tensor, y: Tensor) -> float:
    first, second = (torch.cdist(z, z).detach().numpy() for z in (x, y))
    plan = pot.gromov.gromov_wasserstein(first, second, G0=np.eye(len(x)) / len(x))
    differences = first[:, None, :, None] - second[None, :, None, :]
    return float(np.einsum("ijkl,ij,kl->", differences**2, plan, plan)) / y.shape[1]


@pytest.mark.parametrize("block", [PreActivation, PostActivation])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_costs_by_hand(
    block: type[PreActivation | PostActivation], reduction: Reduction, p: float
) -> None:
    net = net_of(block)
    blocks = TransportCost(p=p, reduction=reduction)
    program = program_of(net)
    plain = program.whole(IMAGES, measure=blocks).costs
    x, y = (end.mean((2, 3)) for end in ends_of(net))
    factor = 1 if reduction == "mean" else y.shape[1]
    found = program.whole(IMAGES, measure=ProjectionCost("soft-matching", blocks)).costs
    assert torch.equal(found[[0, 1, 3]], plain[[0, 1, 3]])
    assert found[2].item() == pytest.approx(factor * matching(x, y, p), rel=1e-10)
    if p == 2:
        cost = ProjectionCost("gromov-wasserstein", blocks)
        found = program.whole(IMAGES, measure=cost).costs
        assert found[2].item() == pytest.approx(factor * gromov(x, y), rel=1e-6)


def test_positions_that_count_are_at_the_same_places() -> None:
    x = torch.arange(64.0, dtype=torch.float64).view(1, 1, 8, 8)
    y = torch.nn.functional.avg_pool2d(x, 2)
    both = residue_of(torch.cat([x, -x], 1), torch.cat([y, -y, y, -y], 1))
    # a position of the small map is the mean of four of the large one, at most 4.5 away
    assert 0 < ProjectionCost("soft-matching", pool=9)(both) < 4.5**2
    far = residue_of(torch.cat([x, -x], 1), torch.cat([y, -y, y, -y], 1).flip(2, 3))
    assert ProjectionCost("soft-matching", pool=9)(far) > 10 * 4.5**2


def test_displacement_is_measured_of_other_blocks() -> None:
    program = program_of(net_of())
    blocks = TransportCost(residue="displacement")
    found = program.whole(IMAGES, measure=ProjectionCost("soft-matching", blocks)).costs
    assert len(found) == 4
    assert torch.equal(found[[0, 1, 3]], program.whole(IMAGES, measure=blocks).costs)


@pytest.mark.parametrize("pool", ["mean", "none", 3])
@pytest.mark.parametrize(
    "cost", [*((METHODS[0], p) for p in (1.0, 2.0, 3.0)), (METHODS[1], 2.0)], ids=str
)
def test_gradients_are_finite_differences(cost: tuple[str, float], pool: str | int) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (
        torch.randn(5, width, 2, 2, generator=generator, dtype=torch.float64).requires_grad_()
        for width in (3, 4)
    )
    measure = ProjectionCost(cost[0], TransportCost(p=cost[1]), pool)
    assert torch.autograd.gradcheck(lambda x, y: measure(residue_of(x, y)), (x, y))


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_the_weights(method: str) -> None:
    net = net_of()
    part, cost = program_of(net).whole, ProjectionCost(method, TransportCost(kinds=("projection",)))
    weight = net.stem.weight

    def total() -> Tensor:
        costs = part(IMAGES, measure=cost).costs
        assert len(costs) == 1
        return costs.sum()

    [slope] = torch.autograd.grad(total(), [weight])
    step = 1e-6 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        weight += step
        above = total()
        weight -= 2 * step
        below = total()
    assert (above - below).item() == pytest.approx(2 * (slope * step).sum().item(), rel=1e-4)


def test_the_order_of_channels_does_not_count() -> None:
    x, y = ends_of(net_of())
    order = torch.tensor([2, 0, 3, 1])
    cost = ProjectionCost(METHODS[0], pool=4)
    torch.testing.assert_close(cost(residue_of(x[:, order], y)), cost(residue_of(x, y)))
    assert cost(residue_of(x, torch.cat([x, x], 1)[:, torch.randperm(8)])) == 0


def test_isometries_do_not_count() -> None:
    x, y = ends_of(net_of())
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    turned = torch.einsum("dc,bchw->bdhw", turn, x) + 3
    cost = ProjectionCost(METHODS[1], pool=4)
    expected = cost(residue_of(x, y))
    assert expected is not None
    assert expected > 1e-4
    torch.testing.assert_close(cost(residue_of(turned, y)), expected)
    wider = torch.cat([turned, torch.ones_like(turned)], 1)
    assert cost(residue_of(x, wider)) < 1e-20


@pytest.mark.parametrize("method", METHODS)
def test_channels_last_are_compared_as_channels_first(method: str) -> None:
    x, y = ends_of(net_of())
    cost = ProjectionCost(method, pool=4)
    last = residue_of(x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1), (3, 3))
    assert torch.equal(cost(last), cost(residue_of(x, y)))


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_is_measured_in_single(method: str) -> None:
    x, y = (end.to(torch.bfloat16) for end in ends_of(net_of()))
    cost = ProjectionCost(method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cost(residue_of(x, y))
    assert found.dtype == torch.float32
    assert torch.equal(found, cost(residue_of(x.float(), y.float())))
    program = program_of(net_of()).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        costs = program.whole(IMAGES.float(), measure=cost).costs
    assert costs.dtype == torch.float32


@pytest.mark.parametrize("method", METHODS)
def test_each_part_has_its_own(method: str) -> None:
    program = program_of(net_of(), modules=2)
    cost, hidden, found = ProjectionCost(method), IMAGES, list[Tensor]()
    for part in program.parts:
        output = part(hidden, measure=cost)
        hidden = output.hidden.detach()
        found.append(output.costs)
    assert [len(costs) for costs in found] == [2, 2]
    torch.testing.assert_close(torch.cat(found), program.whole(IMAGES, measure=cost).costs)


@pytest.mark.parametrize("method", METHODS)
def test_parts_compile_with_it(method: str) -> None:
    part, cost = program_of(net_of(), modules=2).parts[1], ProjectionCost(method, pool=4)
    hidden = ends_of(net_of())[0].detach()
    compiled = torch.compile(part, fullgraph=True, backend="aot_eager")
    gradients = []
    for run in (compiled, part):
        output = run(hidden, measure=cost)
        gradients.append(torch.autograd.grad(output.costs.sum(), part.blocks.parameters()))
    torch.testing.assert_close(*gradients)


def test_a_program_without_inputs_is_refused() -> None:
    cost = ProjectionCost(METHODS[0])
    program = transportify(net_of().float(), torch.zeros(2, 2, 6, 6), verify=False)
    refusals: list[Callable[[], object]] = [
        lambda: program.whole(IMAGES.float(), measure=cost),
        lambda: cost.check(program.facts.blocks),
    ]
    for refuse in refusals:
        with pytest.raises(UsageError, match="compile it with projection_inputs=True"):
            refuse()
    cost.check(program_of(net_of()).facts.blocks)


def test_a_program_without_projections_is_refused() -> None:
    program = program_of(Net(PostActivation, downsampling=False).double())
    with pytest.raises(UsageError, match="has no projection block"):
        ProjectionCost(METHODS[0]).check(program.facts.blocks)
    hidden = program_of(net_of(), kinds=("identity",))
    with pytest.raises(UsageError, match="has no projection block"):
        ProjectionCost(METHODS[0]).check(hidden.facts.blocks)


@pytest.mark.parametrize(
    ("pool", "message"),
    [("none", "takes 36 positions to 9"), (9, "pool=9 takes 9 positions of a layer that has 9")],
)
def test_positions_that_do_not_correspond(pool: str | int, message: str) -> None:
    cost, program = ProjectionCost(METHODS[0], pool=pool), program_of(net_of())
    with pytest.raises(UsageError, match=message):
        cost.check(program.facts.blocks)
    with pytest.raises(UsageError, match="positions"):
        program.whole(IMAGES, measure=cost)
    vectors = Block("", Kind.PROJECTION, (6,), 0, Layout.VECTOR, BlockInput("x", (4,), 1, 1))
    cost.check([vectors])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "emd"}, "soft-matching, gromov-wasserstein, not 'emd'"),
        ({"method": METHODS[0], "pool": 0}, "pool is 'mean', 'none' or a number"),
        ({"method": METHODS[1], "blocks": TransportCost(p=3)}, "p is 3: take p=2, or soft-match"),
    ],
)
def test_options_that_are_not_valid(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ProjectionCost(**options)
