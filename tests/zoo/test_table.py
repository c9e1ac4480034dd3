"""The tables of a sweep on the terminal."""

from rich.console import Console

from fxtransport.zoo.record import Record, Refusal
from fxtransport.zoo.table import show

NO = Refusal("TraceError", "raised KeyError", "…")


def lines_of(*records: Record) -> list[list[str]]:
    console = Console(width=160, color_system=None)
    with console.capture() as shown:
        show(console, records)
    return [line.split() for line in shown.get().splitlines()]


def test_families_and_their_total() -> None:
    lines = lines_of(
        Record("timm:a1", "timm:a", 1.0, residuals={"identity": 2, "inner": 1}),
        Record("timm:a2", "timm:a", 3.0, residuals={"identity": 4}),
        Record("timm:b", "timm:b", 0.5),
    )
    assert lines[1:] == [
        ["timm:a", "2", "2", "–", "–", "7", "2.00", "3.00", "timm:a2"],
        ["timm:b", "1", "1", "–", "–", "–", "0.50", "0.50", "timm:b"],
        ["total", "3", "3", "–", "–", "7", "1.00", "3.00", "timm:a2"],
    ]


def test_reasons_name_three_models() -> None:
    lines = lines_of(*(Record(f"timm:a{n}", "timm:a", 1.0, refusal=NO) for n in range(4)))
    assert lines[-2][:2] == ["refused", "because"]
    assert " ".join(lines[-1]) == "TraceError: raised KeyError 4 timm:a0, timm:a1, timm:a2, …"


def test_substitutes_have_a_table_of_their_own() -> None:
    lines = lines_of(Record("timm:a", "timm:a", 1.0, submodule="backbone", whole=NO))
    assert lines[-2][:3] == ["only", "a", "submodule,"]
    assert lines[-1][-2:] == ["1", "timm:a"]
