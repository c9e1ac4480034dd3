"""Small modules out of a grammar of Python: each exact, or refused by an error of ours.

The same as ``benchmarks/fuzz.py`` with fewer programs. One that fails here is printed, and made
smaller, by ``python benchmarks/fuzz.py --show SEED --reduce``.
"""

import ast

import pytest
from hypothesis import given, settings

from tests.fuzzing.grammar import programs, write_seed
from tests.fuzzing.running import gist, run

PROGRAMS = 300


@pytest.mark.slow
def test_programs_are_exact_or_refused() -> None:
    verdicts = list(run(0, PROGRAMS, workers=2, batch=PROGRAMS // 2))
    assert sorted(v["seed"] for v in verdicts) == list(range(PROGRAMS))
    failed = [v for v in verdicts if v["verdict"] not in ("exact", "refused", "discarded")]
    lines = [f"{v['seed']} {v['verdict']}: {v['error']} | {v['message']}"[:200] for v in failed]
    assert failed == [], "\n".join(lines)
    # the grammar writes what runs, and what is exact
    discarded = sum(v["verdict"] == "discarded" for v in verdicts)
    assert discarded < 0.2 * PROGRAMS
    exact = [v for v in verdicts if v["verdict"] == "exact"]
    assert len(exact) > 0.5 * PROGRAMS
    assert sum(v["residuals"] > 0 for v in exact) > 0.5 * len(exact)


@settings(max_examples=50)
@given(programs())
def test_programs_are_python(source: str) -> None:
    names = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert names[-1] == "Root"


def test_a_seed_is_one_program() -> None:
    assert write_seed(5) == write_seed(5)
    assert write_seed(5).source != write_seed(6).source


def test_statements_are_left_out_one_by_one() -> None:
    written = write_seed(5)
    smaller = write_seed(5, {written.statements - 1: "drop"})
    assert len(smaller.source) < len(written.source)
    assert smaller.statements == written.statements


def test_messages_are_grouped_without_what_differs() -> None:
    one = "blocks.0 (Block1) raised KeyError at /tmp/a/program63.py:82: 'b'. The rest | traceback"
    other = "blocks.b2 (Root) raised KeyError at /tmp/b/program7.py:9: 'c'. The end"
    assert gist(one).startswith(gist(other)[:30])
    assert "/" not in gist("raised TypeError at /usr/lib/python3/contextlib.py:137: no storage")
