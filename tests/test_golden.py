"""Golden files: the rewritten graph of every pattern as it is printed, and its numbers.

``pytest --update-golden`` updates the files; read the difference before committing it.
"""

import re
from pathlib import Path

import pytest
import torch

from fxtransport.ir import Residuals, VerificationReport
from fxtransport.passes.pipeline import run_passes
from fxtransport.passes.verify import Verify
from fxtransport.report.graph import graph_text
from fxtransport.unit import Unit
from tests.compiling import assert_identical, compiled, original, outcome, transport
from tests.patterns import PATTERNS, Pattern

GOLDEN = Path(__file__).parent / "golden"

every_pattern = pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())


@every_pattern
def test_the_graph_is_as_written(pattern: type[Pattern], update_golden: bool) -> None:
    text = golden_text(compiled(pattern(), *pattern.shape))
    file = GOLDEN / f"{snake_case(pattern.__name__)}.fx.txt"
    if update_golden:
        file.write_text(text)
    assert text == file.read_text()


@every_pattern
def test_the_additions_are_as_known(pattern: type[Pattern]) -> None:
    found = compiled(pattern(), *pattern.shape).fact(Residuals).found
    assert tuple((r.path, r.kind) for r in found) == pattern.expected


@every_pattern
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_numbers_are_the_models(pattern: type[Pattern], training: bool) -> None:
    model = pattern()
    unit = compiled(model, *pattern.shape)
    x = torch.randn(3, *pattern.shape)
    (output, residues), buffers = outcome(transport(unit), model, x, training=training)
    assert_identical((output, buffers), outcome(original, model, x, training=training))
    by_hand, _ = outcome(pattern.residues, model, x, training=training)
    assert_identical(list(residues), list(by_hand))


@every_pattern
def test_the_gradients_are_the_models(pattern: type[Pattern]) -> None:
    unit = run_passes(compiled(pattern(), *pattern.shape), [Verify()])
    assert unit.fact(VerificationReport).max_error == 0


def test_every_golden_file_has_a_pattern() -> None:
    files = {file.name for file in GOLDEN.iterdir()}
    assert files == {f"{snake_case(name)}.fx.txt" for name in PATTERNS}


def golden_text(unit: Unit) -> str:
    """What ``fxtransport inspect --all`` lists, below the docstring of the model."""
    title = " ".join((type(unit.model).__doc__ or "").split())
    return f"# {title}\n\n{graph_text(unit, everything=True)}"


def snake_case(name: str) -> str:
    """Two words for ``TwoWords``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
