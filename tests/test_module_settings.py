"""Settings of modules are known again in another process, and tensors are none of them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from fxtransport.module_settings import plain_globals, settings_hash, settings_of
from fxtransport.watched import NUMBER, Watched


def hash_of(module: nn.Module) -> str:
    return settings_hash(nn.Sequential(module), [], [])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: nn.Dropout(0.1), lambda: nn.Dropout(0.10000001)),
        (lambda: nn.Conv2d(4, 4, 3, stride=1), lambda: nn.Conv2d(4, 4, 3, stride=2)),
        (lambda: nn.Conv2d(4, 4, 3, dilation=1), lambda: nn.Conv2d(4, 4, 3, dilation=2)),
        (lambda: nn.BatchNorm1d(3), lambda: nn.BatchNorm1d(3, momentum=None)),
        (lambda: nn.LayerNorm(3), lambda: nn.LayerNorm(3, eps=1e-6)),
        (lambda: nn.MultiheadAttention(4, 2), lambda: nn.MultiheadAttention(4, 4)),
        (lambda: nn.MaxPool2d(2), lambda: nn.AvgPool2d(2)),
        (lambda: nn.ELU(1.0), lambda: nn.ELU(2.0)),
    ],
)
def test_modules_that_compute_otherwise_differ(
    one: Callable[[], nn.Module], other: Callable[[], nn.Module]
) -> None:
    assert hash_of(one()) == hash_of(one()) != hash_of(other())


def test_weights_modes_and_names_of_weights_are_no_settings() -> None:
    module = nn.BatchNorm1d(3)
    before = hash_of(module)
    module.running_mean = torch.ones(3)
    module.eval()
    module.pretrained_cfg = {"url": "x"}  # type: ignore[assignment]
    module.cache = torch.zeros(3)
    module._count = 3  # type: ignore[assignment]
    assert hash_of(module) == before


def test_functions_and_tables_are_settings_and_objects_are_not() -> None:
    module = nn.Identity()
    module.act: Any = torch.relu
    module.table: Any = {"a": [1, (2.0, None)], "act": partial(max, key=abs)}
    module.thing: Any = object()
    module.mixed: Any = [1, object()]
    assert [name for name, _ in settings_of(module)] == ["act", "table"]
    assert all(" at 0x" not in text for _, text in settings_of(module))


def test_of_open_modules_counts_what_is_read_and_not_written() -> None:
    module = nn.Identity()
    module.scale: Any = 2.0
    model = nn.Sequential(module)

    def found(*watched: Watched, written: tuple[tuple[str, str], ...] = ()) -> str:
        return settings_hash(model, ["", "0"], watched, written)

    read = Watched("0", "scale", NUMBER)
    before, alone, counter = found(read), found(), found(read, written=(("0", "scale"),))
    module.scale = 3.0
    assert found(read) != before
    assert found() == alone
    assert found(read, written=(("0", "scale"),)) == counter
    assert found(Watched("0", "mode", "a")) != found(Watched("0", "mode", "b"))


def test_numbers_that_code_refers_to_by_name_count() -> None:
    assert plain_globals({"b": 2, "torch": torch, "a": max}) == [("a", "'max'"), ("b", "2")]
