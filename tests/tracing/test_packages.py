"""Packages that only are used by a model keep registries, which are not watched."""

import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.errors import GuardError
from fxtransport.tracing.packages import is_of_others, packages_of
from tests.tracing.blocks import assert_equal, program_of, x

SOURCE = """
import torch

KNOWN, SCALE = {}, 0.5

def helped(y):
    KNOWN[type(y)] = KNOWN.get(type(y), 0) + 1
    return y * SCALE
"""


class Block(nn.Module):
    """A residual block that calls a function of another package."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        import helps_blocks  # type: ignore[import-not-found]

        helped: Tensor = helps_blocks.helped(self.linear(x))
        return x + helped


@pytest.fixture
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "helps_blocks.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "helps_blocks", raising=False)


def test_whose_packages() -> None:
    own = packages_of([Block])
    assert own == {"tests", "torch", "builtins"}
    assert not is_of_others("tests.tracing.blocks", own)
    assert not is_of_others("torch.nn", own)
    assert not is_of_others("os", own)
    assert timm.__file__
    assert is_of_others("timm.layers", own)
    assert not is_of_others("timm.layers", own | {"timm"})


@pytest.mark.usefixtures("_package")
def test_registries_grow_and_numbers_are_watched() -> None:
    import helps_blocks

    model = nn.Sequential(Block(), Block(), nn.Linear(8, 3))
    assert_equal(program_of(model), model, x())
    program = transportify(model, x())
    helps_blocks.KNOWN[int] = 1
    program(x())
    helps_blocks.SCALE = 0.25
    with pytest.raises(GuardError, match=r"helps_blocks\.SCALE, which was 0\.5"):
        program(x())


def test_weak_references_are_not_followed() -> None:
    model = nn.RNN(8, 8, batch_first=True)
    inputs = torch.randn(2, 5, 8)
    assert torch.equal(transportify(model, inputs)(inputs)[0], model(inputs)[0])
