"""Partitions against brute force, on graphs with facts made by hand."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import fx, nn

from fxtransport.analysis.hand_cuts import place_cuts
from fxtransport.errors import PartitionError, UsageError
from fxtransport.ir import (
    Balance,
    Boundaries,
    Boundary,
    Costs,
    HeadCost,
    HeadKind,
    HeadPlan,
    Heads,
    HeadSpec,
    Kind,
    Layers,
    NodeCost,
    Origins,
    PartitionPlan,
    PlannedHead,
    Residual,
    Residuals,
    Shapes,
    Taps,
    TensorSpec,
)
from fxtransport.passes.boundaries import FindBoundaries
from fxtransport.passes.partition import Partition
from fxtransport.passes.pipeline import run_passes
from fxtransport.unit import Example, Unit

SUMMED = [balance for balance in Balance if balance is not Balance.MEMORY]
"""What is summed up over the nodes of a part; of memory see ``tests/test_planner.py``."""


class Chain(nn.Module):
    """Blocks in a row: each a linear layer, an activation and an addition."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(blocks))
        self.head = nn.Linear(2, 3)


def chain(costs: Sequence[int], *, wide: Sequence[int] = (), shared: int = 0) -> Unit:
    """A unit of residual blocks with facts made by hand.

    Block i has a node ``fi`` that costs ``costs[i]`` bytes, and a storage of ``shared``
    bytes that all blocks save, and the addition ``yi``. The boundaries are after each
    addition; several tensors cross after the blocks in ``wide``. There are no heads.
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
    names = [n.name for n in graph.nodes]
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
        Heads(dict.fromkeys(names, PlannedHead(HeadSpec(HeadKind.NONE))), {}),
    )


def planned(unit: Unit, step: Partition, cuts: Sequence[str] = ()) -> PartitionPlan:
    return partitioned(unit, step, cuts).fact(PartitionPlan)


def partitioned(unit: Unit, step: Partition, cuts: Sequence[str] = ()) -> Unit:
    boundaries = replace(unit.fact(Boundaries), cuts=place_cuts(unit, cuts))
    return step.run(unit.with_facts(boundaries))


def test_parts_cover_the_graph_in_order() -> None:
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


ACTIVATIONS = Balance.ACTIVATIONS


def part_cost(
    costs: Sequence[int],
    shared: int,
    heads: Sequence[PlannedHead],
    balance: Balance,
    i: int,
    j: int,
) -> int:
    """What the blocks i … j-1 of a chain cost, with the head after them, by the definition."""
    last = j == len(costs)
    head = PlannedHead(HeadSpec(HeadKind.NONE))
    if heads and not last:
        head = heads[j - 1]
        alone = [part_cost(costs, shared, [], by, i, j) for by in (Balance.FLOPS, ACTIVATIONS)]
        for size in head.larger:
            if alone[0] >= size.least_flops and alone[1] >= size.least_activation_bytes:
                head = size
    match balance:
        case Balance.DEPTH:
            return j - i
        case Balance.PARAMETERS:
            return 4 * (j - i) + 6 * last + head.cost.parameters
        case Balance.FLOPS:
            return 9 * (j - i) + 12 * last + head.cost.flops
    saved = {block: costs[block] for block in range(i, j)} | {-1: shared}
    return sum({**saved, **head.hidden}.values()) + head.cost.activation_bytes


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=7),
    st.integers(0, 9),
    st.integers(1, 7),
    st.sampled_from(SUMMED),
)
def test_plans_are_as_good_as_the_best_of_all(
    costs: list[int], shared: int, parts: int, balance: Balance
) -> None:
    assume(parts <= len(costs))
    plan = planned(chain(costs, shared=shared), Partition(parts, balance))

    def heaviest(path: Sequence[int]) -> int:
        return max(part_cost(costs, shared, [], balance, i, j) for i, j in pairwise(path))

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


def test_cuts_fall_after_the_outermost_module() -> None:
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


def test_several_tensors_cross_where_single_ones_do_not_suffice() -> None:
    unit = chain([1, 1, 1, 1], wide=[1])
    assert all(c.single for c in planned(unit, Partition(2)).cuts)
    assert all(c.single for c in planned(unit, Partition(3)).cuts)
    assert [c.single for c in planned(unit, Partition(4)).cuts] == [True, False, True]


def test_several_tensors_cross_where_single_ones_cut_very_unevenly() -> None:
    unit = chain([9, 1, 1, 1, 1, 1, 1, 1], wide=[1, 2, 3, 4, 5, 6])
    by_depth = planned(unit, Partition(2))
    assert [c.single for c in by_depth.cuts] == [False]
    assert by_depth.bottleneck == 4
    # 9 and 7 is as even as can be
    assert all(c.single for c in planned(unit, Partition(2, Balance.ACTIVATIONS)).cuts)
    assert all(not c.single for c in planned(unit, Partition(3)).cuts)


def test_too_many_parts_says_how_many_are_possible() -> None:
    with pytest.raises(
        PartitionError, match=r"into 30 parts: it has 3 residuals, and .* make at most 3 parts"
    ):
        planned(chain([1, 1, 1]), Partition(30))


@pytest.mark.parametrize("modules", [0, -1])
def test_no_parts(modules: int) -> None:
    with pytest.raises(PartitionError, match=f"into {modules} parts"):
        Partition(modules)


def test_cuts_by_hand_are_sorted() -> None:
    plan = planned(chain([1, 1, 1, 1]), Partition(), ["blocks.2", "y0"])
    assert [c.after for c in plan.cuts] == ["y0", "y2"]
    assert [s.residuals for s in plan.segments] == [1, 2, 1]
    assert plan.lower_bound <= plan.bottleneck == 2


def test_a_cut_by_hand_may_leave_several_tensors() -> None:
    plan = planned(chain([5, 1]), Partition(balance=Balance.ACTIVATIONS), ["f0"])
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
        (("blocks",), 4, "makes 2 parts, not 4"),
    ],
)
def test_cuts_by_hand_that_cannot_be(cuts: tuple[str, ...], modules: int, message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        planned(chain([1, 1]), Partition(modules), cuts)


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
        run_passes(unit, [FindBoundaries(cuts=(cut,))])


def test_what_is_balanced() -> None:
    by_balance = {b: planned(chain([1, 2]), Partition(2, b)) for b in SUMMED}
    assert by_balance[Balance.ACTIVATIONS].bottleneck == 2
    assert by_balance[Balance.PARAMETERS].bottleneck == 10
    assert by_balance[Balance.FLOPS].bottleneck == 21


@st.composite
def chains_with_heads(draw: st.DrawFn) -> tuple[list[int], int, list[PlannedHead]]:
    """Costs of blocks, and the head after each; heads save storages that blocks may save, too."""
    costs = draw(st.lists(st.integers(0, 9), min_size=2, max_size=7))
    shared = draw(st.integers(0, 9))
    sizes = {**dict(enumerate(costs)), -1: shared, -2: draw(st.integers(0, 9))}

    def head(*larger: PlannedHead, least: tuple[float, float] = (0, 0)) -> PlannedHead:
        cost = HeadCost(*(draw(st.integers(0, 20)) for _ in range(3)))
        stored = draw(st.sets(st.sampled_from(sorted(sizes)), max_size=3))
        hidden = {storage: sizes[storage] for storage in stored}
        return PlannedHead(SPEC, cost, hidden, *least, larger)

    heads = []
    for _ in costs:
        least = st.tuples(st.floats(0, 60), st.floats(0, 40))
        larger = [head(least=draw(least)) for _ in range(draw(st.integers(0, 2)))]
        heads.append(head(*larger))
    return costs, shared, heads


SPEC = HeadSpec(HeadKind.TOKEN)


def with_heads(unit: Unit, heads: Sequence[PlannedHead], refused: Sequence[int] = ()) -> Unit:
    """A chain with a head after each block, but for those where none can be."""
    planned = {f"y{i}": head for i, head in enumerate(heads) if i not in refused}
    return unit.with_facts(Heads(planned, {f"y{i}": f"no head after {i}" for i in refused}))


@given(chains_with_heads(), st.integers(1, 7), st.sampled_from(SUMMED), st.data())
def test_plans_with_heads_are_as_good_as_the_best_of_all(
    blocks: tuple[list[int], int, list[PlannedHead]],
    parts: int,
    balance: Balance,
    data: st.DataObject,
) -> None:
    costs, shared, heads = blocks
    refused = data.draw(st.sets(st.integers(0, len(costs) - 2), max_size=2))
    legal = [i for i in range(1, len(costs)) if i - 1 not in refused]
    assume(parts - 1 <= len(legal))
    unit = with_heads(chain(costs, shared=shared), heads, sorted(refused))
    unit = partitioned(unit, Partition(parts, balance))
    plan, built = unit.fact(PartitionPlan), unit.fact(HeadPlan)

    def ranked(path: Sequence[int], by: Balance) -> tuple[int, ...]:
        found = [part_cost(costs, shared, heads, by, i, j) for i, j in pairwise(path)]
        return (max(found), sum(c * c for c in found))

    def rank(path: Sequence[int]) -> tuple[int, ...]:
        by_depth = balance is Balance.DEPTH
        then = ranked(path, Balance.ACTIVATIONS)[:1] if by_depth else ()
        return (*ranked(path, balance), *then)

    every = [(0, *p, len(costs)) for p in combinations(legal, parts - 1)]
    chosen = (0, *(c.units for c in plan.cuts), len(costs))
    assert rank(chosen) == min(map(rank, every))
    assert plan.lower_bound <= plan.bottleneck == rank(chosen)[0]
    for k, (i, j) in enumerate(pairwise(chosen)):
        whole = part_cost(costs, shared, heads, Balance.ACTIVATIONS, i, j)
        alone = plan.segments[k].activation_bytes
        assert alone == part_cost(costs, shared, [], Balance.ACTIVATIONS, i, j)
        assert built.costs[k].activation_bytes == whole - alone


def test_a_hidden_tensor_that_the_part_saves_anyway_counts_once() -> None:
    heads = [PlannedHead(SPEC, HeadCost(3, 2, 1), {0: 5, -2: 7})] * 3
    unit = partitioned(with_heads(chain([5, 5, 5]), heads), Partition(3))
    assert [c.activation_bytes for c in unit.fact(HeadPlan).costs] == [8, 13, 0]
    assert [s.activation_bytes for s in unit.fact(PartitionPlan).segments] == [5, 5, 5]
    assert [head.kind for head in unit.fact(HeadPlan).heads] == [
        HeadKind.TOKEN,
        HeadKind.TOKEN,
        HeadKind.MODEL,
    ]


def test_heads_move_the_cuts() -> None:
    costs = [4, 1, 1, 1, 1]
    heavy = PlannedHead(SPEC, HeadCost(0, 0, 9))
    light = PlannedHead(SPEC, HeadCost(0, 0, 1))
    step = Partition(2, Balance.ACTIVATIONS)
    assert [c.after for c in planned(chain(costs), step).cuts] == ["y0"]
    unit = with_heads(chain(costs), [heavy, light, heavy, heavy, heavy])
    plan = planned(unit, step)
    assert [c.after for c in plan.cuts] == ["y1"]
    assert plan.bottleneck == 6
    assert plan.imbalance == pytest.approx(6 * 2 / 9 - 1)


def test_a_part_has_the_last_size_of_its_head_that_it_is_large_enough_for() -> None:
    sizes = [
        PlannedHead(replace(SPEC, width=width), HeadCost(flops=width), {}, flops, saved)
        for width, flops, saved in ((1, 0, 0), (2, 18, 0), (3, 27, 99), (4, 27, 0))
    ]
    heads = [replace(sizes[0], larger=tuple(sizes[1:]))] * 5
    unit = with_heads(chain([1, 1, 1, 1, 1, 1]), heads)
    for cuts, widths in ((["y0"], [1]), (["y1"], [2]), (["y2"], [4]), (["y3", "y4"], [4, 1])):
        plan = partitioned(unit, Partition(), cuts).fact(HeadPlan)
        assert [head.width for head in plan.heads[:-1]] == widths
        assert [cost.flops for cost in plan.costs[:-1]] == widths


def test_boundaries_without_a_head_are_not_chosen() -> None:
    heads = [PlannedHead(SPEC)] * 4
    unit = with_heads(chain([1, 1, 1, 1]), heads, refused=[1])
    assert [c.after for c in planned(unit, Partition(2)).cuts] == ["y2"]
    assert planned(unit, Partition(3)).modules == 3
    with pytest.raises(UsageError, match="no head after 1"):
        planned(unit, Partition(4))
    with pytest.raises(PartitionError, match="at most 3 parts"):
        planned(unit, Partition(5))


def test_a_cut_by_hand_where_there_can_be_no_head_is_refused() -> None:
    unit = with_heads(chain([1, 1, 1]), [PlannedHead(SPEC)] * 3, refused=[1])
    assert planned(unit, Partition(), ["y0"]).modules == 2
    with pytest.raises(UsageError, match="no head after 1"):
        planned(unit, Partition(), ["y1"])


def test_one_part_needs_no_head() -> None:
    unit = with_heads(chain([1, 1]), [PlannedHead(SPEC)] * 2, refused=[0])
    assert partitioned(unit, Partition()).fact(HeadPlan).heads == (HeadSpec(HeadKind.MODEL),)
