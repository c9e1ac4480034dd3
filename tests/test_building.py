"""What a file's options build is bounded, whatever they say."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fxtransport import compile_named, load, save
from fxtransport.building import check_numbers, limited
from fxtransport.errors import SavedProgramError


@pytest.mark.parametrize("options", [{"a": 10**29}, [1, [2.0**40]], {"a": {"b": float("inf")}}])
def test_huge_numbers_are_refused(options: Any) -> None:
    with pytest.raises(SavedProgramError, match=r"^options have a number, .*which no model needs"):
        check_numbers(options, "options")


def test_usual_numbers_are_not() -> None:
    check_numbers({"a": 2**31 - 1, "b": [True, None, "9" * 99, -1.5]}, "options")
    with pytest.raises(SavedProgramError):
        check_numbers({"a": 2**31, "b": [True, None, "9" * 99, -1.5]}, "options")


def test_a_model_of_too_many_modules_ends_at_once() -> None:
    started = time.perf_counter()
    words = r"build a model of more than 100 modules and tensors"
    with limited(100, 10**6), pytest.raises(SavedProgramError, match=words):
        nn.Sequential(*(nn.Linear(2, 2) for _ in range(10**29)))
    assert time.perf_counter() - started < 10
    # afterwards nothing is counted
    assert len(nn.Sequential(*(nn.Linear(2, 2) for _ in range(60)))) == 60


def test_a_tensor_that_is_too_large_is_named() -> None:
    words = "a model with weight of 10000 elements"
    with limited(100, 5000), pytest.raises(SavedProgramError, match=words):
        nn.Linear(100, 100, device="meta")
    with limited(100, 10_000):
        assert nn.Linear(100, 100).weight.numel() == 10_000
    with limited(100, 10), pytest.raises(SavedProgramError, match="with table of 11 elements"):
        nn.Module().register_buffer("table", torch.zeros(11))


MODEL = """
from torch import nn

class Net(nn.Module):
    input_size = (4,)

    def __init__(self, blocks=2, width=4):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(blocks))
        self.head = nn.Linear(4, width)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)
"""


@pytest.mark.parametrize("options", [{"blocks": 10**8}, {"width": 10**8}, {"blocks": 10**29}])
def test_a_description_cannot_ask_for_too_much(options: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODEL)
    save(compile_named(f"{tmp_path}/net.py:Net"), tmp_path / "saved")
    path = tmp_path / "saved" / "program.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "options": options}))
    with pytest.raises(SavedProgramError, match=r"of a smaller one|no model needs"):
        load(tmp_path / "saved", trust_files=True)
