"""What a pipeline's passes changed."""

from fxtransport.passes.pipeline import PassRun, run_passes
from fxtransport.passes.taps import TapResidues
from fxtransport.report.diff import diff
from tests.compiling import unit_of
from tests.patterns import PATTERNS


def test_each_pass_says_what_it_changed() -> None:
    pattern = PATTERNS["AdditionInPlace"]()
    runs: list[PassRun] = []
    run_passes(unit_of(pattern, *pattern.shape), [TapResidues()], observe=runs.append)
    changes = diff(runs).splitlines()
    assert changes[0] == "record: reads only"
    assert sum(line.startswith("trace: makes the graph, ") for line in changes) == 1
    start = changes.index("taps: ")
    assert changes[start + 1 : start + 3] == ["--- before", "+++ taps"]
    removed = [line for line in changes if line.startswith("-layer")]
    added = [line for line in changes if line.startswith("+layer")]
    assert len(removed) == len(added) == 2
    assert all("_iadd = iadd(" in line for line in removed)
    assert all("_iadd = add_out_of_place(" in line for line in added)
