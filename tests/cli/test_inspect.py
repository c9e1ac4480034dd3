"""``fxtransport inspect``: the listing, and the graph in other forms."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fxtransport.models import build, resolve
from fxtransport.passes.boundaries import FindBoundaries
from fxtransport.report.graph import graph_text
from tests.cli.running import Command, trained
from tests.compiling import run_on


def described(run: Command, *arguments: str) -> dict[str, Any]:
    """The one JSON object that an inspection prints."""
    result = run("inspect", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    [line] = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_json_has_the_keys_that_were_promised(run: Command, nets: Path) -> None:
    found = described(run, f"{nets}:Net")
    assert list(found) == [
        "model",
        "input_shape",
        "parameters",
        "nodes",
        "residuals",
        "layers",
        "boundaries",
    ]
    assert found["input_shape"] == [3, 8, 8]
    assert found["parameters"] == 112 + 4 * 156 + 25
    assert found["residuals"][1] == {
        "path": "blocks.1",
        "kind": "identity",
        "node": "blocks_1_add",
        "skip": "blocks_0_add",
        "branch": "blocks_1_drop",
        "shape": [4, 8, 8],
        "stage": 0,
        "module": 0,
    }
    assert found["layers"] == []
    assert next(b["path"] for b in found["boundaries"] if b["units"] == 1) == "blocks.0"


def test_layers_of_a_plain_model(run: Command, nets: Path) -> None:
    found = described(run, f"{nets}:Plain")
    assert found["residuals"] == []
    assert [layer["path"] for layer in found["layers"]] == ["0", "2", "4", "6"]
    assert found["layers"][0].keys() == {"path", "input", "output", "shape", "stage", "module"}


def test_modules_are_numbered_where_the_pipeline_cuts(run: Command, nets: Path) -> None:
    found = described(run, f"{nets}:Net", "--pipeline", "partition{modules=4}")
    assert [residual["module"] for residual in found["residuals"]] == [0, 1, 2, 3]
    by_hand = "boundaries{cuts=blocks.2},partition{modules=2}"
    found = described(run, f"{nets}:Net", "--pipeline", by_hand)
    assert [residual["module"] for residual in found["residuals"]] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("after", "nodes", "residuals", "boundaries"),
    [("residuals", False, 0, False), ("trace", True, 4, False), ("boundaries", True, 4, True)],
)
def test_after(
    run: Command, nets: Path, after: str, nodes: bool, residuals: int, boundaries: bool
) -> None:
    found = described(run, f"{nets}:Net", "--after", after)
    assert (found["nodes"] > 0) == nodes
    assert len(found["residuals"]) == residuals
    assert bool(found["boundaries"]) == boundaries


def test_before_the_trace_there_is_no_graph(run: Command, nets: Path) -> None:
    for view in ([], ["--code"], ["--dot"]):
        result = run("inspect", f"{nets}:Net", "--after", "residuals", *view)
        assert result.exit_code == 0
        assert result.stdout == ""
        assert result.stderr == "residuals leaves no graph yet; trace makes it\n"


def test_the_listing(run: Command, nets: Path) -> None:
    result = run("inspect", f"{nets}:Twice", "--pipeline", "partition{modules=2}")
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[:-2] == [
        f"{nets}:Twice",
        "input 3×8×8; 729 parameters; 13 nodes; 4 residuals (4 identity)",
        "",
        "path          operation  shape    marks",
        "── part 0 ──",
        "x             input      B×3×8×8",
        "stem          Conv2d     B×4×8×8  ↷ skip 0",
        "blocks.0      Both",
        "  first       Conv2d     B×4×8×8  ↳ branch 0",
        "  add         add        B×4×8×8  ⊕ identity 0  ↷ skip 1",
        "  second      Conv2d     B×4×8×8  ↳ branch 1",
        "  add_1       add        B×4×8×8  ⊕ identity 1  ↷ skip 2",
        "── part 1 ──",
        "blocks.1      Both",
        "  first       Conv2d     B×4×8×8  ↳ branch 2",
        "  add         add        B×4×8×8  ⊕ identity 2  ↷ skip 3",
        "  second      Conv2d     B×4×8×8  ↳ branch 3",
        "  add_1       add        B×4×8×8  ⊕ identity 3",
        "mean          .mean      B×4",
        "head          Linear     B×5",
        "output        output",
    ]
    assert lines[-1].startswith("milliseconds: record ")


def test_swin_tiny_reads_as_blocks(run: Command) -> None:
    result = run("inspect", "swin_tiny")
    headers = re.findall(r"^(layers\.\d\.blocks\.\d) +SwinTransformerBlock *$", result.stdout, re.M)
    assert len(headers) == 12
    assert len(re.findall(r"⊕ identity \d+", result.stdout)) == 24
    assert "64B×49×96" in result.stdout
    lines = result.stdout.splitlines()
    assert len(lines) < 350
    assert max(len(line.rstrip()) for line in lines[:-2]) <= 80
    everything = run("inspect", "swin_tiny", "--all").stdout.splitlines()
    assert len(everything) > 600


def test_everything_is_listed_as_in_golden_files(run: Command, nets: Path) -> None:
    unit = run_on(build(resolve(f"{nets}:Net")), (3, 8, 8), FindBoundaries())
    result = run("inspect", f"{nets}:Net", "--all")
    assert graph_text(unit, everything=True) in result.stdout


def test_the_code_is_python(run: Command, nets: Path) -> None:
    result = run("inspect", f"{nets}:Net", "--code")
    [function] = ast.parse(result.stdout).body
    assert isinstance(function, ast.FunctionDef)
    assert function.name == "forward"
    assert "self.blocks" in result.stdout


def test_graphviz_text_and_differences_are_printed(run: Command, nets: Path) -> None:
    assert run("inspect", f"{nets}:Net", "--dot").stdout.startswith("digraph program {\n")
    changes = run("inspect", f"{nets}:Net", "--diff").stdout.splitlines()
    assert changes[0] == "record: reads only"
    assert "boundaries: reads only" in changes


def test_several_models_come_one_after_the_other(run: Command, nets: Path) -> None:
    result = run("inspect", f"{nets}:Net", f"{nets}:Plain")
    assert result.exit_code == 0
    assert result.stdout.index(f"{nets}:Net") < result.stdout.index(f"{nets}:Plain")


def test_verification_in_a_pipeline_has_numbers(run: Command) -> None:
    result = run(
        "inspect", "torchvision:mobilenet_v3_small", "--json", "--pipeline", "lower,verify"
    )
    assert result.exit_code == 0, result.stderr


@pytest.mark.slow
def test_end_to_end() -> None:
    command = [sys.executable, "-c", "from fxtransport.cli.main import main; main()", "inspect"]
    command += ["swin_tiny", "nosuch", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    swin, failure = map(json.loads, done.stdout.splitlines())
    assert len(swin["residuals"]) == 24
    assert failure["model"] == "nosuch"


def test_a_submodule(run: Command, nets: Path) -> None:
    found = run("inspect", f"{nets}:Net", "--submodule", "blocks.1", "--json")
    assert found.exit_code == 0
    [residual] = json.loads(found.stdout)["residuals"]
    assert (residual["path"], residual["shape"]) == ("", [4, 8, 8])
    detector = run("inspect", f"{nets}:Detects")
    assert detector.exit_code == 0
    assert "Detects#backbone" in detector.stdout
    assert "compiled backbone; the whole cannot be one graph because" in detector.stderr


def test_a_run_says_how_near_its_blocks_are_to_optimal_maps(run: Command, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--method", "e2e", "--epochs", "1")
    found = described(run, str(folder), "--trust-files")
    movements = [*found["movements"].values()]
    assert [movement["path"] for movement in movements] == [f"blocks.{k}" for k in range(4)]
    for movement in movements:
        assert 0 < movement["optimality"] <= 1 + 1e-9
    listing = run("inspect", str(folder), "--trust-files")
    assert listing.exit_code == 0, listing.stderr
    assert "optimality" in listing.stdout
    for movement in movements:
        assert f"{movement['optimality']:.3f}" in listing.stdout


def test_the_code_of_a_run_is_that_of_its_model(run: Command, tmp_path: Path) -> None:
    folder = trained(run, tmp_path / "run", "--method", "e2e", "--epochs", "1")
    result = run("inspect", str(folder), "--trust-files", "--code")
    assert result.exit_code == 2
    assert "are for models, not for runs" in result.stderr
