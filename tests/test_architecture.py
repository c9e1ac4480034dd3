"""Who may import whom; data flows from the model to the program, and imports with it."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "fxtransport": ROOT / "fxtransport",
    "fxtransport.passes": ROOT / "passes",
    "fxtransport.cli": ROOT / "cli",
    "fxtransport.runs.keys": ROOT / "fxtransport" / "runs" / "keys",
    **{
        f"fxtransport.{path.parent.name}": path.parent
        for path in sorted((ROOT / "fxtransport").glob("*/__init__.py"))
    },
}
ALLOWED = {
    "fxtransport.ir": (),
    "fxtransport.errors": (),
    "fxtransport.names": ("fxtransport.errors",),
    "fxtransport.heads": ("fxtransport.ir",),
    "fxtransport.residue": ("fxtransport.ir", "fxtransport.residue"),
    "fxtransport.passes": tuple(f"fxtransport.{n}" for n in "ir errors residue passes".split()),
    "fxtransport.objectives": tuple(
        f"fxtransport.{n}" for n in "ir errors residue objectives".split()
    ),
    "fxtransport.nets": ("fxtransport.errors", "fxtransport.heads", "fxtransport.nets"),
    "fxtransport.data": ("fxtransport.errors", "fxtransport.data"),
    "fxtransport.training": tuple(
        f"fxtransport.{name}"
        for name in (
            "ir errors residue program objectives training data models storage compiler".split()
        )
    ),
    "fxtransport.zoo": ("fxtransport",),
    "fxtransport.cli": ("fxtransport",),
    "fxtransport.runs.keys": ("fxtransport",),
    "fxtransport": tuple(
        f"fxtransport.{name}"
        for name in (
            "ir errors names models heads nets residue passes program compiler storage".split()
        )
    ),
}
"""For a module, or a package without an entry of its own, what of this library it imports."""


def modules() -> list[tuple[str, Path]]:
    """Every module of the library, by its name."""
    found = []
    for package, folder in FOLDERS.items():
        for path in sorted(folder.glob("*.py")):
            name = package if path.stem == "__init__" else f"{package}.{path.stem}"
            found.append((name, path))
    return found


def imported(path: Path) -> set[str]:
    """The library's modules that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            names.add(node.module or "")
            if node.module in FOLDERS:
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    known = {name for name, _ in modules()}
    return {n for n in names if n in known and n != "fxtransport"}


def allowed(name: str) -> tuple[str, ...]:
    """The rule for a module: its own, or that of its package."""
    return ALLOWED[name] if name in ALLOWED else ALLOWED[name.rpartition(".")[0]]


@pytest.mark.parametrize(("name", "path"), modules(), ids=[n for n, _ in modules()])
def test_imports_follow_the_architecture(name: str, path: Path) -> None:
    """No module imports what it must not know."""
    for other in imported(path):
        rules = allowed(name)
        assert any(other == rule or other.startswith(f"{rule}.") for rule in rules), (
            f"{name} imports {other}, and may import {', '.join(rules) or 'none of this library'}"
        )


@pytest.mark.parametrize("package", ["training", "zoo"])
def test_the_library_does_without_what_runs_it(package: str) -> None:
    """The command line is the only one that imports what trains programs or sweeps models."""
    for name, path in modules():
        if name.startswith((f"fxtransport.{package}", "fxtransport.cli")):
            continue
        others = imported(path)
        assert not any(o.startswith(f"fxtransport.{package}") for o in others), name


def test_every_package_is_installed() -> None:
    """``pyproject.toml`` lists every folder that has an ``__init__.py``."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(FOLDERS)


def test_help_imports_no_torch() -> None:
    """The modules that ``--help`` needs import nothing heavy at the top."""
    for name in ("fxtransport", "fxtransport.errors", "fxtransport.cli.main"):
        path = dict(modules())[name]
        tree = ast.parse(path.read_text())
        top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        heavy = {"torch", "timm", "torchvision", "numpy", "rich"}
        for node in top:
            named = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            assert not {str(n).partition(".")[0] for n in named} & heavy, name
