"""Weights are fetched only on request, and a failure to fetch is one line."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import NoReturn

import huggingface_hub.errors
import pytest
import timm
import torch
import torchvision

from fxtransport.cli.common import name_options
from tests.cli.running import Command


def raising(error: Exception) -> object:
    def fail(*arguments: object, **options: object) -> NoReturn:
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        huggingface_hub.errors.LocalEntryNotFoundError("no network\nand no cache"),
        RuntimeError("No pretrained weights exist for resnet18. Use `pretrained=False`."),
        ConnectionRefusedError("refused"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_timm_without_network(
    run: Command, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(timm, "create_model", raising(error))
    result = run("split", "resnet18", "--pretrained")
    assert result.exit_code == 2
    first = str(error).splitlines()[0]
    assert result.stderr == (
        f"error: timm:resnet18: cannot get pretrained weights: {first} "
        "(without --pretrained nothing is fetched)\n"
    )


def test_torchvision_without_network(
    run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "urlopen", raising(urllib.error.URLError("no route")))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    result = run("inspect", "torchvision:resnet18", "--pretrained")
    assert result.exit_code == 2
    assert "cannot get pretrained weights: <urlopen error no route>" in result.stderr
    assert "Traceback" not in result.stderr


def test_files_have_no_pretrained_weights(run: Command) -> None:
    result = run("split", "nets.py:Net", "--pretrained")
    assert result.exit_code == 2
    assert "nets.py:Net: pretrained weights need a model of timm or torchvision" in result.stderr


def test_nothing_is_fetched_unasked(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", raising(AssertionError("fetched")))
    monkeypatch.setattr(
        torchvision.models._api, "load_state_dict_from_url", raising(AssertionError("fetched"))
    )
    assert run("inspect", "torchvision:fcn_resnet50", "--json", "--after", "record").exit_code == 0


def test_errors_name_options_where_the_library_names_arguments() -> None:
    message = "the best weights are an average: give last=True average=False"
    assert name_options(message) == "the best weights are an average: give --last --no-ema"
    assert name_options("give trust_files=True if") == "give --trust-files if"
