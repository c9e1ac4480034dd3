"""What ``fxtransport inspect --json`` prints."""

from fxtransport.ir import HeadKind
from fxtransport.passes.heads import PlanHeads
from fxtransport.passes.partition import Partition
from fxtransport.passes.residuals import FindResiduals
from fxtransport.report.description import description
from tests.compiling import run_on
from tests.patterns import PATTERNS

HEADLESS = PlanHeads(HeadKind.NONE)
"""The patterns return maps, not logits."""


def test_residuals_name_their_nodes_and_part() -> None:
    pattern = PATTERNS["ResidualInsideResidual"]()
    found = description(run_on(pattern, pattern.shape, HEADLESS, Partition(2)), "a model")
    assert (found["model"], found["input_shape"], found["nodes"]) == ("a model", [4, 8, 8], 7)
    assert found["residuals"][1] == {
        "path": "",
        "kind": "identity",
        "node": "add",
        "skip": "x",
        "branch": "branch_after",
        "shape": [4, 8, 8],
        "stage": 0,
        "module": 1,
    }
    assert [boundary["path"] for boundary in found["boundaries"]]


def test_parallel_branches_are_joined() -> None:
    pattern = PATTERNS["ParallelBranches"]()
    [residual] = description(run_on(pattern, pattern.shape, Partition(1)), "x")["residuals"]
    assert residual["branch"] == "attention + mlp"


def test_what_is_not_known_yet_is_empty() -> None:
    pattern = PATTERNS["ResidualInsideResidual"]()
    found = description(run_on(pattern, pattern.shape, FindResiduals()), "x")
    assert found["nodes"] == 0
    assert found["residuals"] == found["layers"] == found["boundaries"] == []
