"""``fxtransport plan``: its table, its JSON, budgets, and what is refused."""

import json
import tomllib
from pathlib import Path

import pytest

from tests.cli.running import SMALL, Command, write_net

SIZE = 2**20


def test_the_table_and_the_curve(run: Command, tmp_path: Path) -> None:
    result = run("plan", write_net(tmp_path), "--image-size", "1,8,8", "--batch-size", "8")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "batch 8, trgl, momentum, cpu: peak memory of training" in lines[0]
    assert lines[2].split()[:4] == ["parts", "balance", "peak", "saved"]
    assert lines[3].split()[:3] == ["1", "end", "to"]
    assert any("memory" in line and line.startswith("2") for line in lines)
    assert lines[-1].endswith("iB")


def test_json_has_the_keys_that_scripts_read(run: Command, tmp_path: Path) -> None:
    given = ["--image-size", "1,8,8", "--batch-size", "8", "--optimizer", "adamw", "--json"]
    result = run("plan", write_net(tmp_path), *given)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["batch_size"] == 8
    assert found["optimizer"] == "adamw"
    assert found["fit"] is None
    assert found["end_to_end"]["peak_bytes"] > 0
    by_modules: dict[int, dict[str, int]] = {}
    for row in found["rows"]:
        assert len(row["cuts"]) == row["modules"] - 1
        by_modules.setdefault(row["modules"], {})[row["balance"]] = row["peak_bytes"]
    assert set(by_modules) == set(range(2, max(by_modules) + 1))
    for peaks in by_modules.values():
        assert peaks["memory"] == min(peaks.values())


def test_a_budget_is_met_by_plan_split_and_train(run: Command, tmp_path: Path) -> None:
    """The fewest parts that fit; a run's configuration says which cuts they are."""
    net = write_net(tmp_path)
    small = [net, "--image-size", "1,8,8"]
    whole = run("plan", *small, "--batch-size", "64", "--json")
    end_to_end = json.loads(whole.stdout)["end_to_end"]["peak_bytes"]
    budget = str(int(0.9 * end_to_end))
    result = run("plan", *small, "--batch-size", "64", "--fit", budget, "--json")
    assert result.exit_code == 0, result.stderr
    fit = json.loads(result.stdout)["fit"]
    assert fit["modules"] > 1
    assert fit["batch_size"] == 64
    assert fit["peak_bytes"] <= int(budget)

    result = run("split", *small, "--batch-size", "64", "--fit", budget, "--json")
    assert result.exit_code == 0, result.stderr

    output = tmp_path / "run"
    given = ["--method", "trgl", "--epochs", "1", "--batch-size", "64", "--fit", budget]
    result = run("train", net, *SMALL, *given, "--output", str(output))
    assert result.exit_code == 0, result.stderr
    config = tomllib.loads((output / "config.toml").read_text())
    assert len(config["program"]["cuts"]) >= 1
    assert config["data"]["batch_size"] == 64


def test_no_more_blocks_are_computed_again_than_needed(run: Command, tmp_path: Path) -> None:
    net = write_net(tmp_path)
    small = [net, "--image-size", "1,8,8", "--batch-size", "64", "--modules", "1"]
    whole = json.loads(run("plan", *small, "--json").stdout)["end_to_end"]["peak_bytes"]
    large = str(int(0.97 * whole))
    result = run("plan", *small, "--fit", large)
    assert "in 1 part, computing norms again; peak" in " ".join(result.stdout.split())
    fit = json.loads(run("plan", *small, "--fit", large, "--json").stdout)["fit"]
    assert fit["recompute_norms"] and not fit["checkpoint_activations"]
    budget = str(fit["peak_bytes"])
    fit = json.loads(run("plan", *small, "--fit", budget, "--json").stdout)["fit"]
    assert fit["recompute_norms"] and fit["checkpoint_activations"]
    assert fit["checkpoint_blocks"] == [1]
    assert 1 < fit["step_time"] < 1.2

    output = tmp_path / "run"
    given = ["--method", "trgl", "--epochs", "1", "--batch-size", "64", "--modules", "1"]
    result = run("train", net, *SMALL, *given, "--fit", budget, "--output", str(output))
    assert result.exit_code == 0, result.stderr
    assert "in 1 part, computing norms and 1 of 4 blocks again, peak" in result.stderr
    # what was chosen is kept, and may be set otherwise
    again = ["train", "--resume", str(output), "--trust-files"]
    for more in ([], ["--checkpoint-blocks", "3"]):
        result = run(*again, "--epochs", str(2 + len(more)), *more)
        assert result.exit_code == 0, result.stderr
        config = tomllib.loads((output / "config.toml").read_text())
        assert config["trainer"]["checkpoint_blocks"] == ([3] if more else [1])
    result = run(*again, "--epochs", "5", "--checkpoint-blocks", "5")
    assert result.exit_code == 2
    assert "--checkpoint-blocks is 5, and the program has 4 residual blocks" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fit", "1KiB", "--batch-size", "8"], "1.00 KiB"),
        (["--fit", "much"], "much"),
        (["--modules", "99"], "99 parts"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    run: Command, tmp_path: Path, arguments: list[str], words: str
) -> None:
    result = run("plan", write_net(tmp_path), "--image-size", "1,8,8", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len([line for line in result.stderr.splitlines() if "rror: " in line]) == 1
