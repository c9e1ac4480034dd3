"""The table of ``fxtransport split`` on terminals of any width."""

import re

import pytest
import torch
from rich.console import Console

from fxtransport import Program, transportify
from fxtransport.report.split_table import cut_location, show
from fxtransport.report.summary import summary
from tests.patterns import PATTERNS


@pytest.fixture(scope="module")
def program() -> Program:
    pattern = PATTERNS["SharedModule"]()
    example = torch.zeros(2, *pattern.shape)
    return transportify(pattern, example, modules=3, head="conv", num_classes=3, verify=False)


def shown(program: Program, width: int, name: str = "a model") -> str:
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as captured:
        show(console, program, summary(program, name, 32))
    return captured.get()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_the_table_fits_the_terminal(program: Program, width: int) -> None:
    assert max(map(len, shown(program, width).splitlines())) <= width


def test_names_with_brackets_are_shown_as_they_are(program: Program) -> None:
    assert shown(program, 80, "nets[old].py:Net").startswith("nets[old].py:Net in 3 parts")


@pytest.mark.parametrize(("balance", "head"), [("depth", ""), ("flops", " with its head")])
def test_the_bottleneck_says_if_a_head_counts(balance: str, head: str) -> None:
    pattern = PATTERNS["SharedModule"]()
    options = {"balance": balance, "head": "conv", "num_classes": 100, "verify": False}
    program = transportify(pattern, torch.zeros(2, *pattern.shape), modules=2, **options)
    assert re.search(rf"in part \d{head}, lower bound", shown(program, 120))


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_nothing_is_left_out_from_eighty_columns_on(program: Program, width: int) -> None:
    text = shown(program, width)
    assert "…" not in text.replace(" … ", "")
    assert "█" * 6 in text


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        ("layers.0", "after layers.0"),
        ("layers_0_blocks_1_reshape", "inside layers.0.blocks.1, after reshape"),
        ("flatten", "after flatten"),
        ("_1_add", "inside 1, after add"),
    ],
)
def test_where_a_cut_is(cut: str, words: str) -> None:
    paths = ["", "1", "layers", "layers.0", "layers.0.blocks", "layers.0.blocks.1"]
    assert cut_location(cut, paths) == words
