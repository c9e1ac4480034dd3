"""The printer of graphs. Its listing of every pattern is a golden file, see test_golden.py."""

from fxtransport.ir import HeadKind
from fxtransport.passes.heads import PlanHeads
from fxtransport.passes.partition import Partition
from fxtransport.passes.trace import Trace
from fxtransport.report.graph import graph_lines, graph_text
from tests.compiling import run_on
from tests.patterns import PATTERNS

HEADLESS = PlanHeads(HeadKind.NONE)
"""The patterns return maps, not logits."""


def test_nodes_are_listed_under_their_blocks_and_parts() -> None:
    pattern = PATTERNS["ResidualInsideResidual"]()
    text = graph_text(run_on(pattern, pattern.shape, HEADLESS, Partition(2)))
    assert text.splitlines() == [
        "path           operation         shape    marks",
        "── part 0 ──",
        "x              input             B×4×8×8  ↷ skip 1",
        "branch.before  Sequential        B×4×8×8  ↷ skip 0",
        "branch.inside  PositionEncoding",
        "  conv         Conv2d            B×4×8×8  ↳ branch 0",
        "  add          add               B×4×8×8  ⊕ identity 0",
        "── part 1 ──",
        "branch.after   Conv2d            B×4×8×8  ↳ branch 1",
        "add            add               B×4×8×8  ⊕ identity 1",
        "output         output",
    ]


def test_sizes_and_parameters_are_listed_with_everything_only() -> None:
    pattern = PATTERNS["ClassToken"]()
    unit = run_on(pattern, pattern.shape, Trace())
    paths = [line.path for line in graph_lines(unit)]
    everything = [line.path for line in graph_lines(unit, everything=True)]
    assert [path for path in everything if path not in paths] == ["shape", "getitem", "token"]
    nodes = [line.node for line in graph_lines(unit, everything=True) if line.node]
    assert nodes == [node.name for node in unit.traced().nodes]


def test_names_below_a_path_that_begins_with_a_digit() -> None:
    pattern = PATTERNS["ShortcutNone"]()
    lines = graph_lines(run_on(pattern, pattern.shape, Trace()))
    assert [line.path for line in lines][2:6] == ["1", "  body", "  shortcut", "  add"]
