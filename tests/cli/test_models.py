"""The command ``models`` prints names, and only names, on stdout."""

import json

import pytest
from click.testing import CliRunner

from fxtransport.cli.models import models
from fxtransport.errors import ModelNameError


def test_one_name_per_line() -> None:
    result = CliRunner().invoke(models, ["raft", "--source", "torchvision"])
    assert result.exit_code == 0
    assert result.stdout == "torchvision:raft_large\ntorchvision:raft_small\n"


def test_json_is_one_object_per_line() -> None:
    result = CliRunner().invoke(models, ["torchvision:raft*", "--json"])
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"model": "torchvision:raft_large"},
        {"model": "torchvision:raft_small"},
    ]


def test_without_a_pattern_both_libraries_are_listed() -> None:
    lines = CliRunner().invoke(models, []).stdout.splitlines()
    assert {line.partition(":")[0] for line in lines} == {"timm", "torchvision"}
    assert len(lines) > 1000


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("rafd_small", "no model matches 'rafd_small': did you mean torchvision:raft_small?"),
        ("zzzzzz", "no model matches 'zzzzzz'"),
    ],
)
def test_no_match_is_an_error(pattern: str, text: str) -> None:
    result = CliRunner().invoke(models, [pattern, "--source", "torchvision"])
    assert result.stdout == ""
    assert isinstance(result.exception, ModelNameError)
    assert str(result.exception) == text
    assert result.exception.exit_code == 2


def test_an_unknown_source_is_a_usage_error() -> None:
    assert CliRunner().invoke(models, ["--source", "keras"]).exit_code == 2
