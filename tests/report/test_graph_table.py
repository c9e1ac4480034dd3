"""On a terminal the listing has colors; what it says is what the plain text says."""

import pytest
from rich.console import Console

from fxtransport.ir import HeadKind
from fxtransport.passes.heads import PlanHeads
from fxtransport.passes.partition import Partition
from fxtransport.report.graph import graph_text
from fxtransport.report.graph_table import graph_table, show
from tests.compiling import run_on
from tests.patterns import PATTERNS

HEADLESS = PlanHeads(HeadKind.NONE)
"""The patterns return maps, not logits."""


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("name", ["ResidualInsideResidual", "PlainLayers", "ClassToken"])
def test_the_table_says_what_the_text_says(name: str, everything: bool) -> None:
    pattern = PATTERNS[name]()
    unit = run_on(pattern, pattern.shape, HEADLESS, Partition(2))
    console = Console(width=200, force_terminal=True, color_system=None)
    with console.capture() as shown:
        console.print(graph_table(unit, everything=everything))
    lines = [line.rstrip() for line in shown.get().splitlines()]
    assert lines == graph_text(unit, everything=everything).splitlines()


def test_a_narrow_pipe_gets_whole_lines() -> None:
    pattern = PATTERNS["SharedModule"]()
    unit = run_on(pattern, pattern.shape, Partition(1))
    console = Console(width=20, force_terminal=False)
    with console.capture() as shown:
        show(console, unit, "nets[old].py:Net", everything=True)
    assert shown.get().endswith(graph_text(unit, everything=True))
    assert shown.get().startswith("nets[old].py:Net\n")
    assert "\x1b" not in shown.get()


def test_the_headline_counts() -> None:
    pattern = PATTERNS["SliceInPlace"]()
    unit = run_on(pattern, pattern.shape, Partition(1))
    console = Console(width=100, force_terminal=True, highlight=False)
    with console.capture() as shown:
        show(console, unit, "a model")
    assert "\x1b[1ma model\x1b[0m" in shown.get()
    assert "\x1b[2minput 6×8; " in shown.get()
    assert "4 nodes; 2 residuals (1 inner, 1 identity)" in shown.get()
