"""Marks say to which residual or layer a node belongs."""

from fxtransport.passes.taps import TapResidues
from fxtransport.report.marks import Mark, marks
from tests.compiling import run_on
from tests.patterns import PATTERNS


def texts(name: str) -> dict[str, list[str]]:
    pattern = PATTERNS[name]()
    found = marks(run_on(pattern, pattern.shape, TapResidues()))
    return {node: [mark.text_at() for mark in own] for node, own in found.items()}


def test_residuals_are_numbered_with_all_their_operands() -> None:
    assert texts("ResidualInsideResidual") == {
        "x": ["↷ skip 1"],
        "branch_before": ["↷ skip 0"],
        "branch_inside_conv": ["↳ branch 0", "⇥ residue 0"],
        "branch_inside_add": ["⊕ identity 0 of branch.inside"],
        "branch_after": ["↳ branch 1", "⇥ residue 1"],
        "add": ["⊕ identity 1 of the model"],
    }


def test_inner_additions_have_no_residue() -> None:
    assert texts("SliceInPlace")["attention"] == [
        "⊕ inner 0 of attention",
        "↳ branch 1",
        "⇥ residue 0",
    ]


def test_layers_stand_in_for_residuals() -> None:
    assert texts("PlainLayers") == {
        "features_1": ["→ layer 0 of features.0"],
        "sub": ["⇥ residue 0"],
        "features_5": ["→ layer 1 of features.4"],
        "sub_1": ["⇥ residue 1"],
    }


def test_a_path_is_not_repeated() -> None:
    mark = Mark("residual", "identity 3", "layer1.0")
    assert mark.text_at("layer1.0") == "⊕ identity 3"
    assert mark.text_at("layer1") == "⊕ identity 3 of layer1.0"
