"""Plans in Python."""

import pytest
import torch

from fxtransport import plan
from fxtransport.errors import MemoryBudgetError, UsageError
from tests.networks import VectorNet


def test_json_has_what_was_planned() -> None:
    found = plan(VectorNet(), torch.empty(2, 6), batch_size=16, optimizer="adamw", fit="1MiB")
    written = found.as_json()
    assert (written["model"], written["batch_size"]) == ("VectorNet", 16)
    assert written["optimizer"] == "adamw"
    assert written["end_to_end"]["peak_bytes"] == found.end_to_end.peak_bytes
    assert {"modules", "balance", "peak_bytes", "cuts"} <= written["rows"][0].keys()
    fit = written["fit"]
    assert (fit["modules"], fit["cuts"], fit["batch_size"]) == (1, [], 16)
    assert fit["peak_bytes"] == found.end_to_end.peak_bytes


def test_without_a_budget_nothing_is_chosen() -> None:
    assert plan(VectorNet(), torch.empty(2, 6)).as_json()["fit"] is None


def test_what_does_not_fit_says_what_would() -> None:
    with pytest.raises(MemoryBudgetError, match=r"the least is .* in .* part"):
        plan(VectorNet(), torch.empty(2, 6), batch_size=16, fit=100)


def test_a_device_need_not_be_there() -> None:
    found = plan(VectorNet(), torch.empty(2, 6), batch_size=16, device="cuda", amp="bf16")
    assert found.end_to_end.peak_bytes % 4 == 0
    assert found.rows


def test_values_are_checked() -> None:
    with pytest.raises(UsageError, match="one of"):
        plan(VectorNet(), torch.empty(2, 6), method="none")
    with pytest.raises(UsageError, match="optimizer"):
        plan(VectorNet(), torch.empty(2, 6), optimizer="none at all")


def test_steps_are_timed() -> None:
    found = plan(VectorNet(), torch.empty(2, 6), batch_size=4, measure=True)
    assert found.end_to_end.seconds is not None and found.end_to_end.seconds > 0
