"""The fewest blocks that are computed again, and the partition for which that is least."""

from itertools import product

import pytest

from fxtransport.fewest import Fewest
from fxtransport.ir import Balance
from fxtransport.planner import Planner
from tests.test_planner import planner_of

WIDTHS = [96, 16, 64, 32]


@pytest.fixture(scope="module")
def planner() -> Planner:
    return planner_of(WIDTHS, 64, maps=True, checkpoint=True)


def limit_of(planner: Planner, share: float) -> int:
    """Between what two parts hold if all is computed again, and if nothing is."""
    assert planner.plain is not None
    rows = (each.row(2, Balance.MEMORY) for each in (planner, planner.plain))
    least, most = (row.peak_bytes for row in rows)
    return int(least + share * (most - least))


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_no_other_choice_takes_fewer_operations(planner: Planner, share: float) -> None:
    """Of all partitions into two parts and all numbers of blocks, by rehearsal."""
    limit = limit_of(planner, share)
    known = planner.row(2, Balance.MEMORY)
    found = Fewest(planner, limit, known.cuts, known.peak_bytes).choose()
    assert found is not None and found.memory.peak_bytes <= limit
    for cut in planner.line.boundaries:
        every = planner.blocks_of((cut,))
        for counts in product(*(range(most + 1) for most in every)):
            if planner.flops_of((cut,), counts) < found.flops:
                assert planner.measure((cut,), counts).peak_bytes > limit


def test_what_predictions_leave_out_is_made_up_for(
    planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are a tenth too low, as beside a teacher."""
    limit, known = limit_of(planner, 0.6), planner.row(2, Balance.MEMORY)
    exact = Fewest(planner, limit, known.cuts, known.peak_bytes).counts(known.cuts)
    assert exact is not None
    measure = Planner.measure
    rehearsed = []

    def more(self: Planner, cuts: object, counts: object = None) -> object:
        rehearsed.append(counts)
        found = measure(self, cuts, counts)  # type: ignore[arg-type]
        parts = tuple(int(1.1 * peak) for peak in found.parts)
        return type(found)(max(parts), found.kinds, parts)

    monkeypatch.setattr(Planner, "measure", more)
    found = Fewest(planner, int(1.1 * limit), known.cuts, known.peak_bytes).counts(known.cuts)
    assert found is not None and found.counts == exact.counts
    assert len(rehearsed) <= 3 and found.memory.peak_bytes <= 1.1 * limit
