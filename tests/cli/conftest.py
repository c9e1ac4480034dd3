"""What tests of the command line share: small models in a file, and a way to run commands."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from click.testing import CliRunner, Result

from fxtransport.cli.main import cli

NETS = '''
"""Small models, one for each thing that a command meets."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x).relu()


class Net(nn.Module):
    input_size = (3, 8, 8)

    def __init__(self, blocks=4):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(4) for _ in range(blocks)))
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Twice(Net):
    """A block with two additions, so that a cut may fall inside it."""

    def __init__(self):
        super().__init__(0)
        self.blocks = nn.Sequential(Both(), Both())


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = x + self.first(x)
        return x + self.second(x)


class Plain(nn.Sequential):
    """No additions, but layers that keep their shape."""

    input_size = (4, 8, 8)

    def __init__(self):
        units = (m for _ in range(4) for m in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()))
        super().__init__(*units, nn.Flatten(), nn.Linear(256, 5))


class Neither(nn.Sequential):
    """Neither additions nor layers."""

    input_size = (8,)

    def __init__(self):
        super().__init__(nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5))


class Chatty(Net):
    def __init__(self):
        print("built")
        super().__init__()

    def forward(self, x):
        print("run")
        return super().forward(x)


class Raises(Net):
    def forward(self, x):
        raise KeyError("width")


class Decides(Net):
    def forward(self, x):
        if x.sum() > 0:
            return super().forward(x)
        return self.head(self.stem(x).mean((2, 3)))


class Detects(nn.Module):
    """A backbone, and a choice by its scores."""

    input_size = (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.backbone = Net()

    def forward(self, x):
        y = self.backbone(x)
        return y[y > 0]


class Sizeless(nn.Linear):
    def __init__(self):
        super().__init__(3, 3)
'''


class Command(Protocol):
    """Runs ``fxtransport`` in this process."""

    def __call__(self, *arguments: str) -> Result: ...


def in_process(*arguments: str) -> Result:
    """Run the command line; stdout and stderr are kept apart."""
    return CliRunner().invoke(cli, arguments, prog_name="fxtransport")


@pytest.fixture
def run() -> Command:
    """Run the command line."""
    return in_process


@pytest.fixture(scope="session")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the small models."""
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(NETS)
    return path


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """Let processes that tests start hear Ctrl-C.

    A shell starts what runs in the background with the signal ignored, and every child
    inherits that.
    """
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)
