"""The habits of this folder: tests are found from the source's name, and can fail."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
SOURCES = {"fxtransport": "", "passes": "passes", "cli": "cli", "benchmarks": "benchmarks"}
"""Folders with sources, and where below ``tests/`` their tests are."""

ELSEWHERE = {
    "test_architecture.py": "reads the imports of all sources",
    "test_docs.py": "runs the examples of the README and of docs/",
    "test_doctests.py": "runs the examples of all docstrings",
    "test_golden.py": "compares the graphs of tests/patterns/ with tests/golden/",
    "test_habits.py": "reads the tests",
    "test_part_guards.py": "what fxtransport/part.py refuses, which has many tests",
    "test_part_modes.py": "the modes of fxtransport/part.py, which has many tests",
    "test_part_writes.py": "what code of fxtransport/part.py sets, which has many tests",
    "objectives/test_norms_alone.py": "an option of fxtransport/objectives/transport.py",
    "cuda": "runs what needs a CUDA device, also where there is none",
    "end_to_end": "compares whole programs and whole runs with models and methods written by hand",
    "passes/test_random_networks.py": "runs all passes on networks made at random",
    "passes/test_regressions.py": "runs all passes on what was wrong once",
    "passes/test_trace_decisions.py": "the decisions of passes/trace.py, which has many tests",
    "passes/test_truth.py": "compares the residuals of the zoo with those found by hand",
}
"""Tests, and folders of tests, of more than one source, and what they are there for."""


def files() -> list[str]:
    """The test files, by their paths below ``tests/``."""
    return sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py"))


def expected_tests() -> Iterator[str]:
    """Where the tests of each source are; a package is tested beside its folder."""
    for folder, place in SOURCES.items():
        for path in (ROOT / folder).rglob("*.py"):
            source = path.parent if path.name == "__init__.py" else path
            if source != ROOT / folder:
                below = Path(place) / source.relative_to(ROOT / folder)
                yield below.with_name(f"test_{source.stem}.py").as_posix()


@pytest.mark.parametrize("name", files())
def test_tests_are_found_from_the_name_of_the_source(name: str) -> None:
    """``fxtransport/x/y.py`` is tested in ``tests/x/test_y.py``."""
    listed = name in ELSEWHERE or name.partition("/")[0] in ELSEWHERE
    assert listed != (name in set(expected_tests())), name


def test_what_is_listed_is_there() -> None:
    assert [name for name in ELSEWHERE if not (TESTS / name).exists()] == []


def always_true(test: ast.expr) -> str | None:
    """Why an assertion cannot fail, if it cannot."""
    match test:
        case ast.Constant(value=value) if value:
            return "a constant"
        case ast.Tuple(elts=[_, *_]) | ast.List(elts=[_, *_]) | ast.Dict(keys=[_, *_]):
            return "a container that is not empty"
        case ast.JoinedStr() | ast.Lambda() | ast.GeneratorExp():
            return "an object that is always true"
        case ast.BoolOp(op=ast.Or(), values=values) if len({ast.dump(v) for v in values}) == 1:
            return "one condition twice"
        case ast.BoolOp(op=ast.Or(), values=[*_, ast.Name(id=name)]) if any(
            isinstance(node, ast.Name) and node.id == name
            for value in test.values[:-1]
            for node in ast.walk(value)
        ):
            return f"{name} is asked for and then taken as it is"
        case ast.Compare(
            left=ast.Call(func=ast.Name(id="len")),
            ops=[ast.GtE()],
            comparators=[ast.Constant(value=0)],
        ):
            return "a length is never negative"
        case ast.Compare(
            left=ast.Attribute(attr="seconds" | "steps" | "samples" as name),
            ops=[ast.GtE()],
            comparators=[ast.Constant(value=0)],
        ):
            return f"{name} are never negative"
    return None


@pytest.mark.parametrize("name", files())
def test_assertions_can_fail(name: str) -> None:
    tree = ast.parse((TESTS / name).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            why = always_true(node.test)
            assert why is None, f"{name}:{node.lineno} {ast.unparse(node)}: {why}"


@pytest.mark.parametrize("name", files())
def test_every_test_checks_something(name: str) -> None:
    """It asserts, expects an error, or calls a helper that does."""
    tree = ast.parse((TESTS / name).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            asserts = any(isinstance(inner, ast.Assert) for inner in ast.walk(node))
            assert asserts or called_names(node) & CHECKS, f"{name}:{node.lineno} {node.name}"


CHECKS = {
    "assert_by_hand",
    "assert_close",
    "assert_equal",
    "assert_generated",
    "assert_identical",
    "assert_same",
    "assert_same_step",
    "fail",
    "raises",
    "refused",
    "refused_as_a_whole",
    "remedied",
    "verified",
    "warns",
}
"""What asserts, by name: helpers of the tests, of pytest and of torch."""
IMPLICIT = {"check", "error_on_recompile", "load", "set_sync_debug_mode"}
"""What raises where something is wrong: it may be all that a test does."""
CHECKS |= IMPLICIT


def called_names(function: ast.FunctionDef) -> set[str]:
    """The last names of all that a function calls, and of the keywords that it gives."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            found |= {keyword.arg for keyword in node.keywords if keyword.arg}
            match node.func:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    found.add(name)
    return found
