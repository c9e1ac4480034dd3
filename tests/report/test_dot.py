"""Graphviz text: every node once, every edge between nodes that there are."""

import re
import shutil
import subprocess

import pytest

from fxtransport.ir import HeadKind
from fxtransport.passes.heads import PlanHeads
from fxtransport.passes.partition import Partition
from fxtransport.report.dot import dot
from tests.compiling import run_on
from tests.patterns import PATTERNS

HEADLESS = PlanHeads(HeadKind.NONE)
"""The patterns return maps, not logits."""

BOX = re.compile(
    r'^    "(\w+)" \[label="[^"]+"(?:, style=\w+, fillcolor="#\w+")?\];$', re.MULTILINE
)
GRAPHVIZ = shutil.which("dot")
EDGE = re.compile(r'^  "(\w+)" -> "(\w+)"(?: \[color="#\w+"\])?;$', re.MULTILINE)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", ["SharedModule", "PlainLayers", "ClassToken"])
def test_dot_is_graphviz(name: str, parts: int) -> None:
    pattern = PATTERNS[name]()
    text = dot(run_on(pattern, pattern.shape, HEADLESS, Partition(parts)))
    boxes, edges = BOX.findall(text), EDGE.findall(text)
    assert len(boxes) == len(set(boxes))
    assert {end for edge in edges for end in edge} == set(boxes)
    assert text.count("subgraph cluster_") == parts
    known = len(boxes) + len(edges) + 2 * parts + 3
    assert len(text.splitlines()) == known


@pytest.mark.skipif(GRAPHVIZ is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("name", ["SharedModule", "PlainLayers", "ClassToken"])
def test_graphviz_draws_every_node(name: str) -> None:
    assert GRAPHVIZ is not None
    pattern = PATTERNS[name]()
    text = dot(run_on(pattern, pattern.shape, HEADLESS, Partition(2)))
    drawn = subprocess.run(
        [GRAPHVIZ, "-Tsvg"], input=text, capture_output=True, text=True, check=True
    )
    assert drawn.stderr == ""
    assert drawn.stdout.count('class="node"') == len(BOX.findall(text))


def test_residuals_and_skips_are_colored() -> None:
    pattern = PATTERNS["ResidualInsideResidual"]()
    lines = dot(run_on(pattern, pattern.shape, Partition(1))).splitlines()
    filled = [line for line in lines if "fillcolor" in line]
    assert [line.split('"')[1] for line in filled] == ["branch_inside_add", "add"]
    assert [line.strip() for line in lines if " [color=" in line] == [
        '"branch_before" -> "branch_inside_add" [color="#ef476f"];',
        '"x" -> "add" [color="#ef476f"];',
    ]
