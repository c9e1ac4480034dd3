"""Commands in this process, and what tests of runs share."""

import shutil
from pathlib import Path
from typing import Any, Protocol

from click.testing import CliRunner, Result
from safetensors.torch import load_file
from torch import Tensor

from fxtransport.cli.main import cli
from fxtransport.training.checkpoint import RunFolder
from tests import networks

SMALL = ("--no-verify", "--train-samples", "200", "--batch-size", "50", "--device", "cpu")


class Command(Protocol):
    """Runs ``fxtransport`` in this process."""

    def __call__(self, *arguments: str, stdin: str | None = None) -> Result: ...


def in_process(*arguments: str, stdin: str | None = None) -> Result:
    """Run the command line; stdout and stderr are kept apart."""
    return CliRunner().invoke(cli, arguments, input=stdin, prog_name="fxtransport")


def write_net(folder: Path) -> str:
    """The name of a small network for the digits, whose file is put into a folder."""
    file = shutil.copyfile(networks.__file__, folder / "net.py")
    return f"{file}:DigitsNet"


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
