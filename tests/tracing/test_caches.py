"""Functions that remember: a compile leaves no meta tensors in caches, and freezes none."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.errors import TraceError
from fxtransport.tracing.caches import untouched_caches
from tests.tracing.blocks import assert_equal, net, program_of, x


@functools.lru_cache(maxsize=8)
def table(n: int) -> Tensor:
    return torch.arange(n).float() * 0.1


@functools.lru_cache(maxsize=8)
def table_on(n: int, device: torch.device) -> Tensor:
    return torch.arange(n, device=device).float() * 0.1


@functools.cache
def without_size(n: int) -> Tensor:
    return table(n) * 2


class Holder:
    """Keeps a cache on a class, and in a dict of the file."""

    @staticmethod
    @functools.cache
    def static(n: int) -> Tensor:
        return torch.arange(n) * 0.5


TABLES: dict[int, Tensor] = {}
LISTED: list[Tensor] = []


def in_dict(n: int) -> Tensor:
    if n not in TABLES:
        TABLES[n] = torch.arange(n).float()
    return TABLES[n]


def in_list() -> Tensor:
    if not LISTED:
        LISTED.append(torch.arange(8).float())
    return LISTED[0]


class Plain(nn.Module):
    """Not residual, and opened all the same: it is the root."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.linear = way, nn.Linear(8, 8)

    def table(self, x: Tensor) -> Tensor:
        match self.way:
            case "lru_cache":
                return table(x.shape[1])
            case "device in key":
                return table_on(x.shape[1], x.device)
            case "cache":
                return without_size(x.shape[1])
            case "dict":
                return in_dict(x.shape[1])
            case "list":
                return in_list()
        return Holder.static(8)

    def forward(self, x: Tensor) -> Any:
        return self.linear(x) * self.table(x)


class Block(Plain):
    """A residual block."""

    def forward(self, x: Tensor) -> Any:
        return x + self.linear(x) * self.table(x)


class Inner(nn.Module):
    """A residual block with a closed module in it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.plain = Plain(way)

    def forward(self, x: Tensor) -> Any:
        return x + self.plain(x)


def clear() -> None:
    for function in (table, table_on, without_size, Holder.static):
        function.cache_clear()
    TABLES.clear()
    LISTED.clear()


@pytest.mark.parametrize("kind", [Plain, Block, Inner])
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("way", ["lru_cache", "device in key", "cache"])
def test_tables_are_right_and_caches_stay(way: str, verify: bool, kind: Any) -> None:
    clear()
    model = nn.Sequential(kind(way), nn.Linear(8, 3))
    program = program_of(model, verify=verify)
    assert model(x(3)).device.type == "cpu"
    clear()
    assert_equal(program, model, x(5))


@pytest.mark.parametrize("kind", [Plain, Block, Inner])
@pytest.mark.parametrize("way", ["lru_cache", "device in key", "cache", "dict", "list"])
def test_caches_that_are_full(way: str, kind: Any) -> None:
    """A compile is right, or refused by the name of what it met; the plain model runs on."""
    clear()
    model = nn.Sequential(kind(way), nn.Linear(8, 3))
    expected = model(x(3))
    program: Any = None
    try:
        program = program_of(model)
    except TraceError as error:
        assert "a global" in str(error)
        assert way in ("dict", "list")
    assert torch.equal(model(x(3)), expected)
    if program is not None:
        assert_equal(program, model, x(5))


@pytest.mark.parametrize("way", ["dict", "list"])
def test_tables_of_a_file(way: str) -> None:
    """The remedy where such a table is refused: a buffer."""
    clear()
    model = nn.Sequential(Block(way), nn.Linear(8, 3))
    model(x(3))
    with pytest.raises(TraceError, match=r"0 \(Block\) at .*make it a buffer of a module"):
        program_of(model)


def test_static_caches_of_other_classes() -> None:
    clear()
    model = nn.Sequential(Block("static"), nn.Linear(8, 3))
    program_of(model, verify=False)
    assert model(x(3)).device.type == "cpu"


def test_caches_of_functions_that_a_module_holds() -> None:
    """From another file than that of the module's class."""
    clear()
    model = net(lambda m, x, y: y * table(8))
    program_of(model, verify=False)
    assert model(x(3)).device.type == "cpu"


def test_caches_keep_what_was_in_them() -> None:
    clear()
    first = table(8)
    model = Plain("lru_cache")
    transportify(model, torch.zeros(2, 8))
    assert table(8) is first
    TABLES[3] = first
    with untouched_caches(model):
        TABLES[4] = table(9)
        del TABLES[3]
        LISTED.append(first)
    assert table.cache_info().currsize == 1
    assert list(TABLES) == [3]
    assert TABLES[3] is first
    assert LISTED == []


def test_caches_are_restored_after_an_error() -> None:
    clear()
    with pytest.raises(KeyError), untouched_caches(Plain("dict")):
        TABLES[8] = torch.zeros(8)
        raise KeyError
    assert TABLES == {}


def test_caches_that_a_closure_holds() -> None:
    @functools.cache
    def local(n: int) -> Tensor:
        return torch.arange(n).float()

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.linear(x) * local(x.shape[-1])

    model = nn.Sequential(Block(), Block(), nn.Linear(8, 3))
    assert_equal(program_of(model), model, x())
    assert local.cache_info().currsize == 1, "what the model itself made"
    assert not local(8).is_meta
