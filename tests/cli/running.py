"""A small network for the digits, and what tests of runs share."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from fxtransport.training.checkpoint import RunFolder
from tests.cli.conftest import Command

NET = '''
"""A small network for the digits, with dropout, so that its numbers depend on the generators."""

from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        return x + self.drop(self.norm(self.conv(x)).relu())


class Net(nn.Module):
    input_size = (1, 8, 8)

    def __init__(self, blocks=4, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(8) for _ in range(blocks)))
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))
'''
SMALL = ("--no-verify", "--train-samples", "200", "--batch-size", "50", "--device", "cpu")


def write_net(folder: Path) -> str:
    """The name of the network, whose file is put into a folder."""
    file = folder / "net.py"
    file.write_text(NET)
    return f"{file}:Net"


def trained(run: Command, output: Path, *arguments: str) -> Path:
    """Train the network into a folder."""
    output.parent.mkdir(parents=True, exist_ok=True)
    result = run("train", write_net(output.parent), *SMALL, "--output", str(output), *arguments)
    assert result.exit_code == 0, result.stderr
    return output


def last_weights(run: Path) -> dict[str, Tensor]:
    """All tensors of a run's last checkpoint: weights, moments, multipliers, averages."""
    [file] = run.glob("last-*.safetensors")
    return load_file(file)


def state_of(run: Path) -> dict[str, Any]:
    """What a run's last checkpoint holds."""
    state: dict[str, Any] = RunFolder(run).read().state
    return state
