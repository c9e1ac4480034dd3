"""Predicted partitions against rehearsed ones, and against all others."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from fxtransport.analysis.line import legal_line
from fxtransport.analysis.ranges import partition_peaks
from fxtransport.errors import MemoryBudgetError
from fxtransport.example_inputs import example_of
from fxtransport.fitting import fit_batch, fit_modules, reserve_of
from fxtransport.ir import Balance
from fxtransport.planner import Planner
from fxtransport.planning import make_training
from fxtransport.submodule import Target
from tests.networks import Net, VectorBlock

GENERATED = (Phase.explicit, Phase.generate)
"""Shrinking would take minutes."""


class Wide(nn.Module):
    """A residual block with a layer of any width inside."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(features, width)
        self.down = nn.Linear(width, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(x)))


class WideMap(nn.Module):
    """The same of maps, with batch norm: what reads them needs convolutional heads."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.up = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.Conv2d(width, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


def planner_of(
    widths: list[int], batch_size: int, *, maps: bool = False, checkpoint: bool = False
) -> Planner:
    with torch.device("meta"):
        example = torch.empty(2, 8, 8, 8) if maps else torch.empty(2, 8)
        blocks = [WideMap(8, width) if maps else Wide(8, width) for width in widths]
        pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if maps else []
        model = nn.Sequential(*blocks, *pool, nn.Linear(8, 3))
    target = Target(model, example_of(model, example))
    planner = Planner(target, {}, make_training("trgl", "momentum", None, "cpu"), batch_size)
    if not checkpoint:
        return planner
    assert planner.checkpointing is not None
    return planner.checkpointing


nets = st.lists(st.integers(4, 96), min_size=2, max_size=4)


@settings(max_examples=5, deadline=None, phases=GENERATED)
@given(nets, st.integers(2, 64), st.integers(2, 3), st.booleans(), st.booleans())
def test_the_minimum_is_that_of_all_partitions(
    widths: list[int], batch_size: int, modules: int, maps: bool, checkpoint: bool
) -> None:
    planner = planner_of(widths, batch_size, maps=maps, checkpoint=checkpoint)
    every = planner.unit
    row = planner.row(modules, Balance.MEMORY)
    line = legal_line(every)
    steps = line.steps(Balance.MEMORY)
    last = len(line.boundaries) + 1
    peaks = []
    for points in combinations(range(1, last), modules - 1):
        ends = (0, *points, last)
        if all(steps[i, j] for i, j in pairwise(ends)):
            cuts = [line.boundaries[p - 1] for p in points]
            peaks.append(max(partition_peaks(planner.memory, cuts)))
    assert row.peak_bytes == min(peaks)


@settings(max_examples=3, deadline=None, phases=GENERATED)
@given(nets, st.integers(16, 64), st.booleans(), st.booleans())
def test_predictions_are_those_of_rehearsals(
    widths: list[int], batch_size: int, maps: bool, checkpoint: bool
) -> None:
    planner = planner_of(widths, batch_size, maps=maps, checkpoint=checkpoint)
    for modules in (2, 3):
        row = planner.row(modules, Balance.MEMORY)
        measured = planner.measure(row.cuts).peak_bytes
        assert row.peak_bytes == pytest.approx(measured, rel=0.03, abs=1024)


@settings(max_examples=5, deadline=None, phases=GENERATED)
@given(nets, st.integers(8, 256), st.booleans(), st.floats(0.2, 1.1))
def test_what_fits_never_exceeds_its_budget(
    widths: list[int], batch_size: int, maps: bool, share: float
) -> None:
    planner = planner_of(widths, batch_size, maps=maps)
    budget = int(planner.end_to_end.peak_bytes * share)
    try:
        fit = fit_modules(planner, budget)
    except MemoryBudgetError as error:
        assert "the least is" in str(error)
        return
    assert fit.batch_size == batch_size
    limit = budget - reserve_of(budget, "cpu")
    again = fit.checkpoint_activations
    chosen = planner_of(widths, batch_size, maps=maps, checkpoint=again)
    counts = fit.checkpoint_blocks or None
    assert chosen.measure(fit.cuts, counts).peak_bytes <= limit
    for k, count in enumerate(fit.checkpoint_blocks):
        if count:
            fewer = [n - (i == k) for i, n in enumerate(fit.checkpoint_blocks)]
            # what is predicted may be a little more than what is measured
            assert chosen.measure(fit.cuts, fewer).parts[k] > 0.99 * limit


@pytest.mark.parametrize("modules", [1, 2])
def test_checkpointed_activations_come_after_parts(modules: int) -> None:
    planner = planner_of([512] * 6, 1024)
    again = planner.checkpointing
    assert again is not None and again.checkpointing is None
    few = [each.row(modules, Balance.MEMORY).peak_bytes for each in (planner, again)]
    budget = int(few[1] * 1.2)
    assert budget < few[0]
    fit = fit_modules(planner, budget, modules)
    assert fit.checkpoint_activations and (fit.modules, fit.batch_size) == (modules, 1024)
    assert 0 < sum(fit.checkpoint_blocks) < fit.blocks == 6
    assert fit.how == f", computing {sum(fit.checkpoint_blocks)} of 6 blocks again"
    assert planner.flops < fit.flops < again.flops_of(fit.cuts)
    assert fit.peak_bytes <= budget - reserve_of(budget, "cpu")
    # in more parts it is not needed
    found = fit_modules(planner, budget)
    assert found.modules > modules and not found.checkpoint_activations
    with pytest.raises(MemoryBudgetError, match=f"the least is .* in {modules} part.?, for which"):
        fit_modules(planner, budget, modules, checkpoint=False)
    with pytest.raises(
        MemoryBudgetError, match="computing 6 of 6 blocks again, for which a budget"
    ):
        fit_modules(planner, budget // 4, modules)


def test_a_larger_batch_is_no_reason_to_compute_again() -> None:
    planner = planner_of([512] * 4, 32)
    assert planner.checkpointing is not None
    budget = planner.end_to_end.peak_bytes
    fits = [fit_batch(each, budget, 1) for each in (planner, planner.checkpointing)]
    assert [fit.checkpoint_activations for fit in fits] == [False, True]
    assert fits[0].batch_size < fits[1].batch_size


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_predictions_of_blocks_that_are_computed_again(device: str) -> None:
    model = Net(5, width=16, input_size=(3, 16, 16)).to("meta")
    target = Target(model, example_of(model, torch.empty(2, 3, 16, 16, device="meta")))
    training = make_training("trgl", "momentum", "bf16", device)
    planner = Planner(target, {}, training, 64).checkpointing
    assert planner is not None
    for modules in (2, 3):
        row = planner.row(modules, Balance.MEMORY)
        assert row.peak_bytes == pytest.approx(planner.measure(row.cuts).peak_bytes, rel=0.01)
    without = Planner(target, {}, training, 64)
    assert planner.end_to_end.peak_bytes < 0.7 * without.end_to_end.peak_bytes
    assert planner.flops > 1.2 * without.flops
    row = without.row(2, Balance.MEMORY)
    assert row.peak_bytes == pytest.approx(without.measure(row.cuts).peak_bytes, rel=0.01)


def test_no_balance_is_better_than_memory() -> None:
    planner = planner_of([64, 4, 32, 8], 32)
    rows = list(planner.rows())
    assert {row.balance for row in rows} == set(Balance)
    for row in rows:
        best = next(r for r in rows if (r.modules, r.balance) == (row.modules, Balance.MEMORY))
        assert best.peak_bytes <= row.peak_bytes


def test_the_kinds_add_up() -> None:
    planner = planner_of([64, 4, 32], 32)
    for row in planner.rows():
        assert sum(row.kinds.values()) == row.peak_bytes


def test_the_largest_batch_is_found() -> None:
    planner = planner_of([64, 32], 32)
    budget = 2 * planner.end_to_end.peak_bytes
    fit = fit_batch(planner, budget)
    limit = budget - reserve_of(budget, "cpu")
    assert fit.peak_bytes <= limit
    more = planner.at(fit.batch_size + 8)
    assert min(row.peak_bytes for row in more.rows()) > 0.97 * limit


def test_a_part_need_not_hold_a_residual() -> None:
    model = nn.Sequential(
        nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), VectorBlock(8), VectorBlock(8)
    )
    model.append(nn.Linear(8, 3))
    target = Target(model, example_of(model, torch.empty(2, 8, device="meta")))
    planner = Planner(target, {}, make_training("trgl", "momentum", None, "cpu"), 8)
    assert planner.most() == 5
    row = planner.row(5, Balance.MEMORY)
    assert planner.measure(row.cuts).peak_bytes > 0
