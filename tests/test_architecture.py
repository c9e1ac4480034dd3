"""Who may import whom: what runs a program does not know what compiles it.

Imports are followed as Python follows them: through packages, whose ``__init__`` runs first,
inside functions, and where they are there for type checkers only.
"""

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "fxtransport"
MAPPED = {"passes": "fxtransport.passes", "cli": "fxtransport.cli"}
"""Folders at the top level that are installed inside the package."""

BASE = "ir errors files"
RUNS = (
    f"{BASE} casts copies functions hooks opened origin outputs randomness process example "
    "arguments unit lowered module_settings recomputed recompute_norms regions runtime residue "
    "heads shells part program modes watched weights"
)
"""What a program is made of, and what it calls while it runs."""
WITHOUT_DATA = "fakes peaks replay"
"""What is run without data, and what it would hold in memory."""
MAY_IMPORT = {
    "ir": "",
    "errors": "",
    "files": "",
    "randomness": "",
    "names": "errors",
    "allocators": "",
    "origin": "",
    "outputs": "",
    "process": "",
    "heads": "ir",
    "fakes": "",
    "onednn": "",
    "cpu_kernels": "onednn",
    "peaks": "cpu_kernels",
    "replay": "peaks",
    "residue": "ir",
    "hooks": "",
    "module_copies": "",
    "copies": "errors module_copies",
    "casts": "",
    "functions": "",
    "watched": "errors",
    "module_settings": "errors watched",
    "lowered": "casts watched module_settings",
    "regions": "errors lowered residue",
    "recomputed": "errors",
    "recompute_norms": "errors recomputed residue",
    "opened": "errors hooks watched",
    "runtime": "ir errors residue",
    "example": "",
    "arguments": "errors",
    "unit": "errors example",
    "shells": "lowered",
    "part": "copies errors hooks lowered opened origin recompute_norms residue shells watched",
    "program": "copies errors ir lowered origin part residue shells arguments example",
    "weights": "errors program",
    "modes": "program shells",
    "data": "errors files randomness",
    "nets": "errors heads",
    "ot": "errors ir modes outputs program residue",
    "objectives": "ir errors ot outputs residue",
    "training": f"{RUNS} objectives ot data allocators {WITHOUT_DATA}",
    "detection": f"{RUNS} objectives ot data",
    "tracing": "casts copies functions hooks ir errors example module_copies process unit runtime "
    "watched",
    "analysis": "ir errors example lowered outputs process recompute_norms regions runtime unit "
    f"heads tracing residue {WITHOUT_DATA}",
    "passes": f"{RUNS} tracing analysis fakes",
    "report": f"{RUNS} passes training data objectives ot zoo names detection detecting comparing "
    "planning runs benching",
}
"""For each room, the others that its files may import; rooms without an entry, all but ``cli``."""

COMPILES = {"passes", "tracing", "analysis", "compiler", "models", "cli"}
DOES_NOT_COMPILE = (
    "ir errors files functions hooks opened origin outputs randomness process example arguments "
    "lowered module_settings recomputed recompute_norms regions runtime residue shells part "
    "program modes watched weights ot objectives training data detection"
).split()
"""Rooms from which nothing of the compiler is reached, directly or through others."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the library, by its name."""
    found = {}
    for folder, package in {PACKAGE: PACKAGE, **MAPPED}.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


@cache
def imported(name: str) -> frozenset[str]:
    """The library's modules that a module imports, without the packages around them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            source = node.module or ""
            inside = {f"{source}.{alias.name}" for alias in node.names} & modules().keys()
            found |= inside or {source}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return frozenset(found & modules().keys())


def run_by(name: str) -> Iterator[str]:
    """What an import of a module runs: the packages around it, and the module."""
    parts = name.split(".")
    return (".".join(parts[: depth + 1]) for depth in range(len(parts)))


def reached(name: str) -> dict[str, str]:
    """What is loaded with a module: each by the one that imports it."""
    found = dict.fromkeys(run_by(name), "")
    left = list(found)
    while left:
        current = left.pop()
        for other in imported(current):
            for part in run_by(other):
                if part not in found:
                    found[part] = current
                    left.append(part)
    return found


def room(name: str) -> str:
    """The first name below the package: ``training``, ``program``; the root is ``""``."""
    return [*name.split("."), ""][1]


def way_to(name: str, found: dict[str, str]) -> str:
    """How a module is reached, in words."""
    way = [name]
    while found[way[-1]]:
        way.append(found[way[-1]])
    return " ← ".join(way)


@pytest.mark.parametrize("name", modules())
def test_rooms_import_what_they_may(name: str) -> None:
    here = room(name)
    for other in sorted({room(module) for module in imported(name)} - {here, ""}):
        if here == "cli":
            continue
        assert other != "cli", f"{name} imports the command line"
        if here in MAY_IMPORT:
            assert other in MAY_IMPORT[here].split(), f"{name} imports {other}"


@pytest.mark.parametrize("here", [*DOES_NOT_COMPILE, ""])
def test_what_runs_does_not_reach_what_compiles(here: str) -> None:
    """Not through others either, the package's root included."""
    for name in modules():
        if room(name) == here:
            found = reached(name)
            for other in found:
                assert room(other) not in COMPILES, way_to(other, found)


def test_no_imports_run_in_a_circle() -> None:
    """Between files, those for type checkers included."""
    done: set[str] = set()

    def visit(name: str, around: tuple[str, ...]) -> None:
        assert name not in around, " → ".join((*around[around.index(name) :], name))
        if name in done:
            return
        for other in sorted(imported(name)):
            visit(other, (*around, name))
        done.add(name)

    for name in modules():
        visit(name, ())


def test_every_room_is_there() -> None:
    """The rules name what exists."""
    rooms = {room(name) for name in modules()}
    named = set(MAY_IMPORT) | COMPILES | set(DOES_NOT_COMPILE)
    for rule in MAY_IMPORT.values():
        named |= set(rule.split())
    assert named <= rooms


def test_every_package_is_installed() -> None:
    """``pyproject.toml`` lists every folder that has an ``__init__.py``."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    packages = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert sorted(listed) == sorted(packages)


def test_passes_are_one_file_each() -> None:
    """``passes/`` holds what a pass is, the pipeline, and the passes."""
    from fxtransport.passes.pipeline import REGISTRY

    files = {path.stem for path in (ROOT / "passes").glob("*.py")}
    assert files == {"__init__", "base", "pipeline", *REGISTRY}
