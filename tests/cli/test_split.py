"""``fxtransport split``: the table, the JSON, the options, the saved folder."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fxtransport import load
from tests.cli.running import Command

KEYS = {"model", "balance", "modules", "bottleneck", "lower_bound", "imbalance", "cuts"}
MODULE_KEYS = {
    "index",
    "residuals",
    "blocks",
    "parameters",
    "flops",
    "activation_bytes",
    "input_shapes",
    "output_shapes",
    "head",
}


def described(run: Command, *arguments: str) -> dict[str, Any]:
    """The one JSON object that a split prints."""
    result = run("split", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    [line] = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_json_has_the_keys_that_were_promised(run: Command, nets: Path) -> None:
    found = described(run, f"{nets}:Net", "--modules", "2")
    assert found.keys() >= KEYS
    assert found["model"] == f"{nets}:Net"
    for k, module in enumerate(found["modules"]):
        assert module.keys() >= MODULE_KEYS
        assert module["head"].keys() >= {"kind", "parameters", "flops"}
        assert module["index"] == k
    first, last = found["modules"]
    assert (first["blocks"], last["blocks"]) == (
        ["blocks.0", "blocks.1"],
        ["blocks.2", "blocks.3"],
    )
    assert (first["input_shapes"], first["output_shapes"]) == ([[3, 8, 8]], [[4, 8, 8]])
    assert (last["input_shapes"], last["output_shapes"]) == ([[4, 8, 8]], [[5]])
    assert (first["parameters"], last["parameters"]) == (112 + 2 * 156, 2 * 156 + 25)
    assert first["flops"] == 2 * 64 * (27 * 4 + 2 * 36 * 4)
    assert first["head"]["kind"] == "conv"
    assert first["head"]["parameters"] > 0
    assert last["head"] == {"kind": "model", "parameters": 0, "flops": 0, "activation_bytes": 0}
    assert (found["bottleneck"], found["lower_bound"], found["imbalance"]) == (2, 2, 0.0)
    assert found["cuts"] == ["blocks.1"]
    assert found["max_error"] == 0.0


def test_depth_and_four_modules_are_the_default(run: Command, nets: Path) -> None:
    found = described(run, f"{nets}:Net")
    assert found == described(run, f"{nets}:Net", "--equal-depth", "-k", "4")
    assert found["balance"] == "depth"
    assert [module["residuals"] for module in found["modules"]] == [1, 1, 1, 1]


@pytest.mark.parametrize("balance", ["activations", "parameters", "flops"])
def test_balance(run: Command, nets: Path, balance: str) -> None:
    arguments = [f"{nets}:Net", "-k", "2"]
    found = described(run, *arguments, "--balance", balance)
    key = {"activations": "activation_bytes"}.get(balance, balance)
    assert found["balance"] == balance
    assert found["bottleneck"] == max(m[key] + m["head"][key] for m in found["modules"])
    assert found["lower_bound"] <= found["bottleneck"]
    if balance == "activations":
        assert found == described(run, *arguments, "--equal-weight")


def test_activations_grow_with_the_batch(run: Command, nets: Path) -> None:
    one, many = (
        described(run, f"{nets}:Net", "--batch-size", str(n))["modules"][0] for n in (1, 64)
    )
    assert many["activation_bytes"] > 32 * one["activation_bytes"]
    assert many["flops"] == one["flops"]


def test_cuts_by_hand(run: Command, nets: Path) -> None:
    found = described(run, f"{nets}:Net", "--cut", "blocks.2", "--cut", "stem")
    assert found["cuts"] == ["stem", "blocks.2"]
    assert [module["residuals"] for module in found["modules"]] == [0, 3, 1]


@pytest.mark.parametrize("head", ["conv", "token", "dgl", "none"])
def test_heads(run: Command, nets: Path, head: str) -> None:
    found = described(run, f"{nets}:Net", "-k", "2", "--head", head, "--num-classes", "7")
    assert [module["head"]["kind"] for module in found["modules"]] == [head, "model"]
    assert (found["modules"][0]["head"]["parameters"] == 0) == (head == "none")


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (["--head-width", "2"], []),
        (["--head", "dgl", "--head-width", "2"], ["--head", "dgl"]),
        (["--head-budget", "0"], ["--head-budget", "100000"]),
    ],
)
def test_the_size_of_heads(run: Command, nets: Path, less: list[str], more: list[str]) -> None:
    small, large = (
        described(run, f"{nets}:Net", "-k", "2", "--no-verify", *o) for o in (less, more)
    )
    found = [each["modules"][0]["head"]["parameters"] for each in (small, large)]
    assert found[0] < found[1]


@pytest.mark.parametrize("option", ["--input-size", "--image-size"])
@pytest.mark.parametrize(
    ("size", "shape"), [("6", [3, 6, 6]), ("6x10", [3, 6, 10]), ("3,5,7", [3, 5, 7])]
)
def test_sizes(run: Command, nets: Path, option: str, size: str, shape: list[int]) -> None:
    found = described(run, f"{nets}:Net", "-k", "2", option, size, "--no-verify")
    assert found["modules"][0]["input_shapes"] == [shape]


def test_a_transformer_is_built_for_a_size(run: Command) -> None:
    arguments = ["vit_tiny", "-k", "2", "--image-size", "1,32,48", "--no-verify"]
    assert described(run, *arguments)["modules"][0]["input_shapes"] == [[1, 32, 48]]


def test_the_table(run: Command, nets: Path) -> None:
    result = run("split", f"{nets}:Twice", "--modules", "4")
    assert result.exit_code == 0
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        f"{nets}:Twice in 4 parts, equally deep",
        "input 3×8×8; FLOPs of one sample; memory saved for backward at batch 32",
        "",
        "#  blocks            residuals  in → out       params   FLOPs    memory  head",
        "0  blocks.0                  1  3×8×8 → 4×8×8     260  32.3 k  56.0 KiB  conv 805",
        "1  rest of blocks.0          1  4×8×8 → 4×8×8     148  18.4 k  32.0 KiB  conv 805",
        "2  blocks.1                  1  4×8×8 → 4×8×8     148  18.4 k  32.0 KiB  conv 805",
        "3  rest of blocks.1          1  4×8×8 → 5         173  18.5 k  32.5 KiB  own",
        "   total                     4                    729  87.6 k   152 KiB  + 2.42 k",
        "",
        "bottleneck  1 residual in part 0, lower bound 1 residual, imbalance 0.0%",
        "cut         inside blocks.0, after add",
        "cut         after blocks.0",
        "cut         inside blocks.1, after add",
        "verified    ✓ outputs, gradients and buffers are the same, in train and eval, "
        "at batch 1 and 2",
    ]


@pytest.mark.parametrize(("factory", "unit"), [("Plain", "layers"), ("Neither", "residuals")])
def test_models_without_additions(run: Command, nets: Path, factory: str, unit: str) -> None:
    result = run("split", f"{nets}:{factory}", "-k", "2", "--no-verify")
    assert result.exit_code == 0
    assert f"  {unit}  in → out" in result.stdout
    assert "verified    no" in result.stdout


def test_one_module_has_no_bottleneck(run: Command, nets: Path) -> None:
    result = run("split", f"{nets}:Net", "-k", "1")
    assert f"{nets}:Net in 1 part\n" in result.stdout
    assert "bottleneck" not in result.stdout


def test_output_is_a_folder_that_loads(run: Command, nets: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "program"
    arguments = ["split", f"{nets}:Net", "--modules", "2", "--no-verify", "--head", "token"]
    result = run(*arguments, "--output", str(folder), "--json")
    assert result.exit_code == 0
    assert result.stderr == f"saved in {folder}\n"
    program = load(folder, trust_files=True)
    assert [cut.path for cut in program.facts.partition.cuts] == json.loads(result.stdout)["cuts"]
    assert program.parts[0](torch.zeros(2, 3, 8, 8)).logits.shape == (2, 5)


def test_an_unwritable_output_fails_before_compiling(
    run: Command, nets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr("fxtransport.compiler.compile_program", fail)
    result = run("split", f"{nets}:Net", "--output", str(nets / "below"))
    assert result.exit_code == 2
    assert result.stderr == f"error: cannot write into {nets / 'below'}: Not a directory\n"


@pytest.mark.slow
def test_the_first_command_of_the_readme(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from fxtransport.cli.main import main; main()"]
    command += ["split", "swin_tiny", "--modules", "4", "--equal-weight", "--output", "program"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stderr.splitlines() == [
        "swin_tiny is timm:swin_tiny_patch4_window7_224 (alias)",
        "saved in program",
    ]
    assert "timm:swin_tiny_patch4_window7_224 in 4 parts, equally heavy" in done.stdout
    assert "✓ outputs, gradients and buffers" in done.stdout
    assert len(load(tmp_path / "program").parts) == 4


NOTE = (
    "compiled backbone; the whole cannot be one graph because the model (Detects) has "
    "data-dependent control flow at"
)


def test_a_backbone_stands_in_for_a_detector(run: Command, nets: Path, tmp_path: Path) -> None:
    result = run("split", f"{nets}:Detects", "--modules", "2", "--output", str(tmp_path / "out"))
    assert result.exit_code == 0
    assert NOTE in result.stderr
    assert "nets.py:Detects#backbone in 2 parts" in result.stdout
    assert load(tmp_path / "out", trust_files=True).state_dict().keys() >= {
        "stem.weight",
        "blocks.3.conv.bias",
    }
    found = described(run, f"{nets}:Detects", "--modules", "2")
    assert found["model"] == f"{nets}:Detects#backbone"
    assert found["whole_refused"].startswith("the model (Detects) has data-dependent")
    assert [m["head"]["kind"] for m in found["modules"]] == ["none", "model"]


def test_a_submodule_that_is_asked_for(run: Command, nets: Path) -> None:
    asked = described(run, f"{nets}:Net", "--submodule", "blocks", "--modules", "2")
    assert asked == described(run, f"{nets}:Net#blocks", "--modules", "2")
    assert asked["model"] == f"{nets}:Net#blocks"
    assert asked["whole_refused"] is None
    assert asked["modules"][0]["input_shapes"] == [[4, 8, 8]]
    sized = described(run, f"{nets}:Net#blocks", "--modules", "2", "--input-size", "4,6,6")
    assert sized["modules"][0]["input_shapes"] == [[4, 6, 6]]
    heads = described(run, f"{nets}:Net#blocks", "--modules", "2", "--num-classes", "3")
    assert heads["modules"][0]["head"]["kind"] == "conv"
    square = described(run, f"{nets}:Net#blocks", "--modules", "2", "--image-size", "6")
    assert square["modules"] == sized["modules"]
    wrong = run("split", f"{nets}:Net", "--submodule", "blocs")
    assert wrong.exit_code == 2
    assert "Net has no submodule 'blocs': did you mean blocks" in wrong.stderr
