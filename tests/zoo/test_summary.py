"""Counts over many records."""

from fxtransport.zoo.record import Record, Refusal
from fxtransport.zoo.summary import refusals, substitutes, summarize


def record(model: str, seconds: float, refusal: Refusal | None = None) -> Record:
    return Record(model, f"{model[0]}s", seconds, refusal=refusal)


def test_summary() -> None:
    no = Refusal("TraceError", "raised KeyError", "…")
    records = [record("b1", 1.0), record("a1", 2.0), record("a2", 4.0, no), record("a3", 3.0)]
    a, b = summarize(records)
    assert (a.name, a.models, a.compiled, a.refused) == ("as", 3, 2, 1)
    assert (a.median_seconds, a.slowest, a.slowest_seconds) == (3.0, "a2", 4.0)
    assert (b.name, b.models) == ("bs", 1)
    assert refusals(records) == {"TraceError: raised KeyError": ("a2",)}


def test_submodules_are_compiled_and_their_wholes_counted() -> None:
    no = Refusal("TraceError", "has data-dependent control flow", "…")
    part = Record("a1", "as", 1.0, submodule="backbone", whole=no, residuals={"identity": 2})
    records = [part, Record("a2", "as", 1.0, residuals={"identity": 1, "projection": 1})]
    [a] = summarize(records)
    assert (a.compiled, a.submodules, a.seconds) == (2, 1, 2.0)
    assert a.residuals == {"identity": 3, "projection": 1}
    assert refusals(records) == {}
    assert substitutes(records) == {no.kind: ("a1",)}
