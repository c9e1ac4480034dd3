"""Partitions against brute force, on random costs and on graphs with facts made by hand."""

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

from fxtransport.analysis.bottleneck import minimal_bottleneck, most_parts, range_costs
from fxtransport.errors import PartitionError
from fxtransport.ir import (
    Balance,
    Boundaries,
    Boundary,
    Costs,
    Kind,
    Layers,
    NodeCost,
    Origins,
    PartitionPlan,
    Residual,
    Residuals,
    Shapes,
    Taps,
    TensorSpec,
)
from fxtransport.passes.partition import Partition
from fxtransport.passes.pipeline import run_passes
from fxtransport.unit import Example, Unit

THINGS = st.dictionaries(st.integers(0, 5), st.just(1), max_size=3)


def paths(allowed: np.ndarray, parts: int) -> list[tuple[int, ...]]:
    """Every path of so many allowed steps from the first point to the last."""
    last = len(allowed) - 1
    inner = combinations(range(1, last), parts - 1)
    found = [(0, *points, last) for points in inner]
    return [p for p in found if all(allowed[i, j] for i, j in pairwise(p))]


def rank(cost: np.ndarray, path: Sequence[int]) -> tuple[int, int]:
    parts = [int(cost[i, j]) for i, j in pairwise(path)]
    return max(parts), sum(c * c for c in parts)


@st.composite
def lines(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Costs of ranges in which things are shared, and which steps are allowed."""
    size = draw(st.integers(2, 7))
    worth = draw(st.lists(st.integers(0, 10**10), min_size=6, max_size=6))
    things = draw(st.lists(THINGS, min_size=size - 1, max_size=size - 1))
    cost = range_costs([{t: worth[t] for t in here} for here in things])
    allowed = draw(st.lists(st.booleans(), min_size=size * size, max_size=size * size))
    return cost, np.triu(np.array(allowed).reshape(size, size), 1)


@given(st.lists(THINGS, min_size=1, max_size=6), st.lists(st.integers(0, 9), min_size=6))
def test_a_range_costs_each_thing_once(things: list[dict[int, int]], worth: list[int]) -> None:
    cost = range_costs([{t: worth[t] for t in here} for here in things])
    for i in range(len(things) + 1):
        for j in range(len(things) + 1):
            union = {t for here in things[i:j] for t in here}
            assert cost[i, j] == sum(worth[t] for t in union)


@given(lines(), st.integers(1, 5))
def test_cuts_are_as_good_as_the_best_of_all(
    line: tuple[np.ndarray, np.ndarray], parts: int
) -> None:
    cost, allowed = line
    every = paths(allowed, parts)
    if not every:
        return
    cuts = minimal_bottleneck(cost, allowed, parts)
    chosen = (0, *cuts, len(cost) - 1)
    assert chosen in every
    assert rank(cost, chosen) == min(rank(cost, p) for p in every)


@given(lines())
def test_the_largest_number_of_parts(line: tuple[np.ndarray, np.ndarray]) -> None:
    _, allowed = line
    possible = [k for k in range(1, len(allowed)) if paths(allowed, k)]
    assert most_parts(allowed) == max(possible, default=0)


def test_costs_beyond_64_bits_when_squared() -> None:
    cost = range_costs([{0: 3 * 10**12 + 1}, {1: 10**12}, {2: 10**12 + 1}, {3: 10**12}])
    assert minimal_bottleneck(cost, np.triu(np.ones((5, 5), dtype=bool), 1), 2) == [1]


class Chain(nn.Module):
    """Blocks in a row: each a linear layer, an activation and an addition."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(blocks))
        self.head = nn.Linear(2, 3)


def chain(costs: Sequence[int], *, wide: Sequence[int] = (), shared: int = 0) -> Unit:
    """A unit of residual blocks with facts made by hand.

    Block i has a node ``fi`` that costs ``costs[i]`` bytes, besides a storage of ``shared``
    bytes that all blocks save, and the addition ``yi``. The boundaries are after each
    addition, those after the blocks in ``wide`` being wide ones.
    """
    graph = fx.Graph()
    x = graph.placeholder("x")
    nodes: dict[str, NodeCost] = {}
    owners: dict[str, str] = {}
    found: list[Boundary] = []
    residuals: list[Residual] = []
    for i, cost in enumerate(costs):
        f = graph.create_node("call_module", f"blocks.{i}", (x,), name=f"f{i}")
        y = graph.create_node("call_function", torch.add, (x, f), name=f"y{i}")
        nodes[f.name] = NodeCost({f"blocks.{i}.weight": 4}, 8, {i: cost, -1: shared})
        nodes[y.name] = NodeCost({}, 1, {})
        owners.update({f.name: "", y.name: f"blocks.{i}"})
        crossing = (x.name, y.name) if i in wide else (y.name,)
        found.append(Boundary(y.name, crossing, crossing, i + 1, f"blocks.{i}"))
        residuals.append(Residual(f"blocks.{i}", Kind.IDENTITY, y.name, x.name, (f.name,), (2,), 0))
        x = y
    head = graph.create_node("call_module", "head", (x,), name="head")
    nodes[head.name] = NodeCost({"head.weight": 6}, 12, {})
    owners[head.name] = ""
    graph.output(head)
    legal = found[:-1]
    spec = TensorSpec((1, 2), "float32", 8)
    return Unit(Chain(len(costs)), Example((torch.empty(1, 2),)), graph).with_facts(
        Boundaries(
            tuple(b for b in legal if b.single),
            tuple(b for b in legal if not b.single),
            len(costs),
            "residual",
        ),
        Costs(nodes, 1),
        Residuals(tuple(residuals)),
        Layers(()),
        Origins(owners, (), (), frozenset({""})),
        Shapes({n.name: spec for n in graph.nodes if n.op != "output"}, frozenset(), 1),
        Taps((), ()),
    )


def planned(unit: Unit, step: Partition) -> PartitionPlan:
    return step.run(unit).fact(PartitionPlan)


def test_modules_cover_the_graph_in_order() -> None:
    unit = chain([1, 1, 1, 1])
    plan = planned(unit, Partition(2))
    names = [n.name for n in unit.traced().nodes if n.op != "output"]
    first, second = plan.segments
    assert (first.first, second.last) == (names[0], names[-1])
    assert names.index(second.first) == names.index(first.last) + 1
    assert first.inputs == ("x",)
    assert first.outputs == second.inputs == ("y1",)
    assert second.outputs == ("head",)
    assert first.blocks == ("blocks.0", "blocks.1")
    assert [s.residuals for s in plan.segments] == [2, 2]
    assert [s.parameters for s in plan.segments] == [8, 14]
    assert [s.flops for s in plan.segments] == [18, 30]


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=7),
    st.integers(0, 9),
    st.integers(1, 7),
    st.sampled_from(Balance),
)
def test_plans_are_as_good_as_the_best_of_all(
    costs: list[int], shared: int, parts: int, balance: Balance
) -> None:
    if parts > len(costs):
        return
    plan = planned(chain(costs, shared=shared), Partition(parts, balance))

    def heaviest(path: Sequence[int]) -> int:
        if balance is Balance.DEPTH:
            return max(j - i for i, j in pairwise(path))
        return max(sum(costs[i:j]) + shared for i, j in pairwise(path))

    every = [(0, *p, len(costs)) for p in combinations(range(1, len(costs)), parts - 1)]
    assert plan.modules == parts
    assert plan.bottleneck == min(heaviest(p) for p in every)
    assert plan.lower_bound <= plan.bottleneck
    assert plan.imbalance >= 0
    assert [c.after for c in plan.cuts] == [s.last for s in plan.segments[:-1]]


def test_storage_that_blocks_share_counts_once() -> None:
    plan = planned(chain([1, 1, 1], shared=10), Partition(1))
    assert plan.segments[0].activation_bytes == 13


def test_equally_even_depths_go_by_activations() -> None:
    plan = planned(chain([5, 5, 5, 1, 1]), Partition(2))
    assert [s.residuals for s in plan.segments] == [2, 3]


def test_cuts_fall_behind_the_outermost_module() -> None:
    unit = chain([0, 0, 0])
    found = [
        Boundary("y0", ("y0",), ("y0",), 1, "blocks.0"),
        Boundary("y1", ("y1",), ("y1",), 2, "blocks"),
    ]
    unit = unit.with_facts(Boundaries(tuple(found), (), 3, "residual"))
    assert planned(unit, Partition(2)).cuts == (found[1],)
    mirrored = (
        Boundary("y0", ("y0",), ("y0",), 1, "blocks"),
        Boundary("y1", ("y1",), ("y1",), 2, "blocks.1"),
    )
    unit = unit.with_facts(Boundaries(mirrored, (), 3, "residual"))
    assert planned(unit, Partition(2)).cuts == (mirrored[0],)


def test_wide_boundaries_where_single_ones_do_not_suffice() -> None:
    unit = chain([1, 1, 1, 1], wide=[1])
    assert all(c.single for c in planned(unit, Partition(2)).cuts)
    assert all(c.single for c in planned(unit, Partition(3)).cuts)
    assert [c.single for c in planned(unit, Partition(4)).cuts] == [True, False, True]


def test_wide_boundaries_where_single_ones_cut_very_unevenly() -> None:
    unit = chain([9, 1, 1, 1, 1, 1, 1, 1], wide=[1, 2, 3, 4, 5, 6])
    by_depth = planned(unit, Partition(2))
    assert [c.single for c in by_depth.cuts] == [False]
    assert by_depth.bottleneck == 4
    # 9 and 7 is as even as can be
    assert all(c.single for c in planned(unit, Partition(2, Balance.ACTIVATIONS)).cuts)
    assert all(not c.single for c in planned(unit, Partition(3)).cuts)


def test_too_many_modules_says_how_many_are_possible() -> None:
    with pytest.raises(PartitionError, match=r"into 30 modules: it has 3 residuals .* most 3"):
        planned(chain([1, 1, 1]), Partition(30))


@pytest.mark.parametrize("modules", [0, -1])
def test_no_modules(modules: int) -> None:
    with pytest.raises(PartitionError, match=f"into {modules} modules"):
        Partition(modules)


def test_cuts_by_hand_are_sorted() -> None:
    plan = planned(chain([1, 1, 1, 1]), Partition(cuts=("blocks.2", "y0")))
    assert [c.after for c in plan.cuts] == ["y0", "y2"]
    assert [s.residuals for s in plan.segments] == [1, 2, 1]
    assert plan.lower_bound <= plan.bottleneck == 2


def test_a_cut_by_hand_may_leave_several_tensors() -> None:
    plan = planned(chain([5, 1]), Partition(cuts=("f0",), balance=Balance.ACTIVATIONS))
    assert plan.cuts[0].tensors == ("x", "f0")
    assert plan.segments[1].inputs == ("x", "f0")
    assert plan.lower_bound == plan.bottleneck == 5


@pytest.mark.parametrize(
    ("cuts", "modules", "message"),
    [
        (("blocks.9",), 1, "no such module or node; did you mean blocks"),
        (("zzz",), 1, "fxtransport inspect"),
        (("blocks.0", "y0"), 1, "fall in the same place"),
        (("head",), 1, "nothing is left"),
        (("blocks",), 4, "makes 2 modules, not 4"),
    ],
)
def test_cuts_by_hand_that_cannot_be(cuts: tuple[str, ...], modules: int, message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        planned(chain([1, 1]), Partition(modules, cuts=cuts))


class Nested(nn.Module):
    """Two closed blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        self.two = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        self.unused = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.one(x)
        return x + self.two(x)


@pytest.mark.parametrize(
    ("cut", "message"), [("one.0", "inside 'one'"), ("unused", "computes nothing")]
)
def test_a_cut_inside_a_closed_module_says_how_to_open_it(cut: str, message: str) -> None:
    unit = Unit(Nested(), Example((torch.empty(2, 2, device="meta"),)))
    with pytest.raises(PartitionError, match=message):
        run_passes(unit, [Partition(cuts=(cut,))])


def test_weights_other_than_activations() -> None:
    by_weight = {w: planned(chain([1, 2]), Partition(2, w)) for w in Balance}
    assert by_weight[Balance.ACTIVATIONS].bottleneck == 2
    assert by_weight[Balance.PARAMETERS].bottleneck == 10
    assert by_weight[Balance.FLOPS].bottleneck == 21
