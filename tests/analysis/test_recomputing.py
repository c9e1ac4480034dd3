"""Predicted peaks of parts that compute some of their blocks again, against rehearsed ones."""

from itertools import pairwise

import pytest
import torch

from fxtransport.analysis.ranges import head_fees, points_of, static_bytes
from fxtransport.analysis.recomputing import Recomputing
from fxtransport.example_inputs import example_of
from fxtransport.ir import Balance
from fxtransport.planner import Planner
from fxtransport.planning import make_training
from fxtransport.submodule import Target
from tests.networks import Net


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_predictions_are_those_of_rehearsals(device: str) -> None:
    model = Net(6, width=16, input_size=(3, 16, 16)).to("meta")
    target = Target(model, example_of(model, torch.empty(2, 3, 16, 16, device="meta")))
    training = make_training("trgl", "momentum", None, device)
    planner = Planner(target, {}, training, 64).checkpointing
    assert planner is not None
    memory = planner.memory
    before = [planner.blocks_of((cut,))[0] for cut in planner.line.boundaries]
    recomputing = Recomputing(memory, planner.plain_memory, [0, *before, 6])
    cuts = planner.row(2, Balance.MEMORY).cuts
    every = planner.blocks_of(cuts)
    pairs = [*pairwise(points_of(memory, cuts))]
    always = static_bytes(memory) + head_fees(memory, pairs)
    peaks = []
    for less in range(max(every) + 1):
        counts = [max(0, most - less) for most in every]
        found = planner.measure(cuts, counts)
        for (i, j), count, peak in zip(pairs, counts, found.parts, strict=True):
            assert always + recomputing.peak(i, j, count) == pytest.approx(peak, rel=0.01)
        peaks.append(found.peak_bytes)
    assert peaks[0] < 0.7 * peaks[-1]
    # of the last part, the last block is cheaper to keep
    i, j = pairs[-1]
    predicted = [recomputing.peak(i, j, count) for count in range(every[-1] + 1)]
    for limit in (*predicted, min(predicted) - 1):
        fitting = [count for count, peak in enumerate(predicted) if peak <= limit]
        assert recomputing.fewest(i, j, limit) == min(fitting, default=None)
