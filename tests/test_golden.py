"""Golden files: the rewritten graph of every pattern, and the numbers that it computes.

``pytest --update-golden`` writes the files anew; read the difference before keeping it.
"""

import operator
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx

from fxtransport.ir import Layers, Residuals, Shapes, Taps, VerificationReport
from fxtransport.passes.pipeline import run_passes
from fxtransport.passes.verify import Verify
from fxtransport.unit import Unit
from tests.compiling import assert_identical, compiled, original, outcome, transport
from tests.patterns import PATTERNS, Pattern

GOLDEN = Path(__file__).parent / "golden"

every_pattern = pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())


@every_pattern
def test_the_graph_is_as_written(pattern: type[Pattern], update_golden: bool) -> None:
    text = graph_text(compiled(pattern(), *pattern.shape))
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


def graph_text(unit: Unit) -> str:
    """One line for each node: name, operation, shape, and what it is to which residual."""
    shapes, notes = unit.fact(Shapes), notes_of(unit)
    rows = []
    for node in unit.traced().nodes:
        if node.op == "output":
            continue
        # a residue that was made has the shape of what it is made of
        known = node.name if node.name not in unit.fact(Taps).added else str(node.args[0])
        sizes = shapes.specs[known].shape if known in shapes.specs else ()
        shape = "×".join("B" if i == 0 and n == 2 else str(n) for i, n in enumerate(sizes))
        rows.append((node.name, operation(node), shape, ", ".join(notes.get(node.name, ()))))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"# {' '.join((type(unit.model).__doc__ or '').split())}", ""]
    for row in rows:
        name, does, shape = (text.ljust(width) for text, width in zip(row, widths, strict=False))
        lines.append(f"{name} = {does}  {shape}  {row[-1]}".rstrip())
    return "\n".join([*lines, f"return {unit.traced().output_node().args[0]}", ""])


def operation(node: fx.Node) -> str:
    """What a node computes: ``block.conv(x)`` for a module, ``add(a, b)`` for a function."""
    arguments = [str(a) for a in node.args]
    arguments += [f"{key}={value}" for key, value in node.kwargs.items()]
    called = f"({', '.join(arguments)})"
    if node.target is operator.getitem:
        return f"{arguments[0]}[{index(node.args[1])}]"
    if node.target is getattr:
        return ".".join(arguments)
    match node.op:
        case "placeholder":
            return "input"
        case "get_attr":
            return f"self.{node.target}"
        case "call_module":
            return f"self.{node.target}{called}"
        case "call_method":
            return f"{arguments[0]}.{node.target}({', '.join(arguments[1:])})"
    return f"{getattr(node.target, '__name__', node.target)}{called}"


def index(key: Any) -> str:
    """What stands between brackets: ``:, :4``."""
    if isinstance(key, tuple):
        return ", ".join(map(index, key))
    if not isinstance(key, slice):
        return str(key)
    text = ":".join("" if end is None else str(end) for end in (key.start, key.stop, key.step))
    return text if key.step else text[:-1]


def notes_of(unit: Unit) -> dict[str, list[str]]:
    """For each node, what it is to which residual or layer; these are numbered in order."""
    notes: dict[str, list[str]] = {}
    for number, r in enumerate(unit.fact(Residuals).found):
        for branch in r.branch:
            notes.setdefault(branch, []).append(f"branch {number}")
        notes.setdefault(r.skip or "", []).append(f"skip {number}")
        notes.setdefault(r.node, []).append(f"{r.kind} {number} of {r.path or 'the model'}")
    for number, layer in enumerate(unit.fact(Layers).found):
        notes.setdefault(layer.output, []).append(f"layer {number} of {layer.path}")
    for number, name in enumerate(unit.fact(Taps).residues):
        notes.setdefault(name, []).append(f"residue {number}")
    return notes


def snake_case(name: str) -> str:
    """Two words for ``TwoWords``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
