"""Saved programs, and the file that their models are from."""

import shutil
from pathlib import Path

import pytest

from fxtransport import save
from tests.storage.programs import program_of

FILE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x):
        return x + self.norm(self.linear(x)).relu()

class Net(nn.Sequential):
    def __init__(self, width=6, depth=3):
        super().__init__(*(Block(width) for _ in range(depth)), nn.Linear(width, 4))
        self.input_size = (width,)

class Tied(Net):
    def __init__(self):
        super().__init__()
        self[1].linear.weight = self[0].linear.weight

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.blocks = nn.Sequential(*(nn.Sequential(Block(6)) for _ in range(2)))
        self.register_buffer("scale", torch.ones(6), persistent=False)

    def forward(self, words):
        return self.blocks((self.embedding(words) * self.scale).mean(1))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with factories of small models."""
    path = tmp_path_factory.mktemp("models") / "nets.py"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def saved(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program of two modules."""
    folder = tmp_path_factory.mktemp("programs") / "net"
    save(program_of(f"{file}:Net", modules=2), folder, model=f"{file}:Net")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "net"))
