"""Every example in README.md and docs/ runs and says what it claims.

Python blocks of one file share their names. Blocks with prompts are compared with what they print;
others only have to run. In console blocks, the lines below a command are lines of its output, in
order, though not all of them. Blocks without a language, such as installation, are not run.
"""

import doctest
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from fxtransport.cli.main import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^]]+\]\(([^)]+)\)")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Command(NamedTuple):
    text: str
    shows: tuple[str, ...]


class Console(NamedTuple):
    """A block: its commands run one after the other, in one folder."""

    page: str
    commands: tuple[Command, ...]


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(page.read_text()) if found == language]


def consoles() -> Iterator[Console]:
    for page in PAGES:
        for block in blocks(page, "console"):
            parts = [part.splitlines() for part in block.split("$ ")[1:]]
            yield Console(page.name, tuple(Command(text, tuple(shows)) for text, *shows in parts))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": page.stem}
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=FLAGS)
    for number, block in enumerate(blocks(page, "python")):
        if ">>>" in block:
            test = parser.get_doctest(block, names, f"{page.name}[{number}]", str(page), 0)
            result = runner.run(test, clear_globs=False)
            names = test.globs
            assert result.failed == 0, f"block {number} of {page.name}"
        else:
            exec(compile(block, f"{page.name}[{number}]", "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "console", list(consoles()), ids=lambda c: f"{c.page}: {c.commands[0].text}"
)
def test_console_blocks_run(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in console.commands:
        program, *arguments = shlex.split(command.text)
        assert program == "fxtransport"
        result = CliRunner().invoke(cli, arguments, prog_name=program)
        assert result.exit_code == 0, result.stderr
        output = iter(" ".join(line.split()) for line in result.stdout.splitlines())
        for line in command.shows:
            assert any(shown.startswith(" ".join(line.split())) for shown in output), line


def test_there_are_pages_and_examples() -> None:
    assert {page.name for page in PAGES} >= {"README.md", "residuals.md", "splitting.md"}
    assert sum(len(console.commands) for console in consoles()) > 8


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            if anchor:
                titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
                # as GitHub makes them
                plain = (re.sub(r"[^\w -]", "", title.lower()) for title in titles)
                assert anchor in [title.replace(" ", "-") for title in plain], link


def results(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["results"]


PUBLISHED_SAVINGS = {("depth", 4): 24, ("depth", 8): 48, ("depth", 16): 58, ("activations", 4): 39}
"""Of ResNet-110, percent."""


def memory_rows() -> Iterator[str]:
    """Of the table of memory in docs/training.md."""
    for network in results("memory.fake"):
        head = f"`{network['model']}`, {network['size']}×{network['size']}"
        head += f" | {network['end_to_end_mib']:.0f} MiB"
        saved = {
            (row["balance"], row["modules"]): f"{row['saved']:.0f} %"
            for row in network["rows"]
            if row["objective"] == "TRGL"
        }
        if network["model"] == "resnet110":
            for key, figure in PUBLISHED_SAVINGS.items():
                saved[key] += f" ({figure} %)"
        for k in sorted({modules for _, modules in saved}):
            yield f"| {head} | {k} | {saved['depth', k]} | {saved['activations', k]} |"
            head = " | "


def time_rows() -> Iterator[str]:
    """Of the table of times there."""
    published = ("", "1.02", "1.06 (2 modules) to 1.16 (16)")
    large, small = (results("training_cost.cpu")[size]["medians"] for size in ("96×96", "32×32"))
    for name, figure in zip(large, published, strict=True):
        yield f"| {name} | {large[name]:.3f} | {small[name]:.3f} | {figure} |"


def test_tables_are_what_the_benchmarks_wrote() -> None:
    page = (ROOT / "docs" / "training.md").read_text()
    for rows in (memory_rows(), time_rows()):
        assert "\n".join(rows) in page


def test_the_readme_begins_with_the_two_commands() -> None:
    [first, *_] = BLOCK.findall((ROOT / "README.md").read_text())
    assert first[1].splitlines() == [
        "pip install -e . && fxtransport split swin_tiny --modules 4 --equal-weight",
        "pip install -e '.[dev]' && pytest",
    ]


def test_the_picture_is_of_this_command() -> None:
    picture = (ROOT / "docs" / "split.svg").read_text()
    text = picture.replace("&#160;", " ")
    for words in ("fxtransport split swin_tiny", "rest of layers.1.blocks.0", "lower bound"):
        assert words in text
    assert str(ROOT) not in text
