"""The page of Markdown about a sweep."""

from pathlib import Path

import pytest

from fxtransport.errors import UsageError
from fxtransport.zoo.file import header
from fxtransport.zoo.page import page, write_page
from fxtransport.zoo.record import Options, Record, Refusal, Verified

NO = Refusal("TraceError", "raised KeyError", "blocks.0 (Block) raised KeyError: a|b")
BECAUSE = Refusal("TraceError", "has data-dependent control flow", "…")
RECORDS = [
    Record(
        "timm:a",
        "timm:as",
        1.5,
        parameters=2_500_000,
        nodes=20,
        residuals={"identity": 4},
        imbalances={"2": 0.5, "4": None},
        verified=Verified(((3, 8, 8),), {"train": 1e-7, "eval": 0.0}, 1.0),
    ),
    Record(
        "torchvision:b",
        "torchvision:bs",
        0.5,
        submodule="backbone",
        whole=BECAUSE,
        parameters=1_000_000,
        nodes=30,
        residuals={"projection": 1},
        imbalances={"2": 0.1, "4": 0.2},
        verified=Verified(((3, 8, 8),), {"train": None, "eval": 0.0}, 1.0),
    ),
    Record("timm:c", "timm:as", 0.1, refusal=NO),
]


def test_the_page() -> None:
    lines = page(header(Options()), RECORDS).splitlines()
    for row in (
        "| timm | 2 | 1 | 0 | 1 | 0.80 | 1.50 | 0.0 |",
        "| both | 3 | 2 | 1 | 1 | 0.50 | 1.50 | 0.0 |",
        "| TraceError: raised KeyError | 1 | blocks.0 (Block) raised KeyError: a\\|b |",
        "- TraceError: raised KeyError: timm:c",
        "| TraceError: has data-dependent control flow | 1 | torchvision:b |",
        "| 2 | 2 | 2 | 30.0% |",
        "| 4 | 1 | 2 | 20.0% |",
        "| train | 1 | 0 | 1.0e-07 | 1 |",
        "| eval | 2 | 2 | 0.0e+00 | 0 |",
        "| timm:as | 2 | 1 | 1 | 4 |  | 0.80 | 1.50 |",
    ):
        assert row in lines
    slowest, largest = (lines.index(f"## {title}") for title in ("Slowest", "Largest graphs"))
    assert lines[slowest + 4].startswith("| timm:a | 1.5 | 20 | 2.5 |")
    assert lines[largest + 4].startswith("| torchvision:b | 0.5 | 30 | 1.0 |")


def test_a_page_without_refusals_says_so() -> None:
    text = page(header(Options()), [Record("timm:a", "timm:as", 1.0)])
    assert "## Refused\n\nNone.\n" in text
    assert "Compiled as a submodule" not in text
    assert "## Verified" not in text


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write into"):
        write_page(tmp_path / "no" / "zoo.md", header(Options()), RECORDS)
