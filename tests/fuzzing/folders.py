"""Folders that are damaged, and what is done with each: programs, parts, runs and detectors."""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from shutil import copyfile
from typing import Any

import torch
from safetensors.torch import load_file

from fxtransport import compile_named, load, load_detector, load_part, save, save_part
from fxtransport.cli.main import cli
from fxtransport.data.fingerprints import tensors_hash
from fxtransport.errors import FxTransportError
from fxtransport.runs.config import complete_config
from fxtransport.runs.fit import fit_run
from fxtransport.runs.load import load_run
from fxtransport.runs.recipe import make_recipe
from fxtransport.training import Observer, Position, StepReport
from fxtransport.training.checkpoint import CHECKPOINT
from tests import networks
from tests.detecting.small import DETECTORS, NET, write_pictures

MINE = ("notes.new", "best-mine.safetensors", "last-0123456789abcdef.safetensors")
"""Files of the user's in each folder."""
FOLDERS = ("program", "part", "run", "det", "watched")
PICTURES = 6


@dataclass(frozen=True)
class Subject:
    """A folder, and what is done with it.

    Attributes:
        name: Of both.
        folder: One of :data:`FOLDERS`.
        use: Uses a folder, which prints numbers, or an error; returns the exit code.
        numbers: From the folder, after it was used, and what was printed, to numbers.
    """

    name: str
    folder: str
    use: Callable[[Path], int]
    numbers: Callable[[Path, str], Any] = lambda _, printed: printed


class _Stop(Observer):
    """Ends a run in its second phase, when hidden states have been kept."""

    def on_step(self, step: StepReport, position: Position) -> None:
        if position.phase == 1:
            raise KeyboardInterrupt


def make_folders(root: Path, seed: int) -> None:
    """Write a program, a part of it, a run that was interrupted, and detectors.

    Args:
        root: Where.
        seed: Of their weights, and of the run.
    """
    root.mkdir()
    file = copyfile(networks.__file__, root.parent / "net.py")
    torch.manual_seed(seed)
    program = compile_named(f"{file}:DigitsNet", modules=2)
    save(program, root / "program")
    save_part(program.parts[1], root / "part")
    values = {
        "model.name": f"{file}:DigitsNet",
        "objective.method": "trgl",
        "schedule.name": "sequential",
        "schedule.epochs": 1,
        "program.modules": 2,
        "program.verify": False,
        "data.train_samples": 60,
        "data.batch_size": 20,
        "data.eval_batch_size": 360,
        "optimizer.lr": 0.1,
        "trainer.device": "cpu",
        "trainer.cache_hidden": True,
        "trainer.ema": 0.5,
        "trainer.keep_checkpoints": 1,
        "trainer.seed": seed,
    }
    recipe = make_recipe(complete_config(values))
    with suppress(KeyboardInterrupt):
        fit_run(root / "run", recipe, recipe.program(), resume=False, observers=[_Stop()])
    for name in FOLDERS[:3]:
        _add_mine(root / name)


def make_detectors(root: Path, seed: int) -> None:
    """Train a small network on digits, and fit detectors for it on attacked images."""
    run, det = root / "watched", root / "det"
    options = ("--method", "e2e", "--epochs", "1", "--lr", "0.05", "--seed", str(seed))
    split = ("--validation", "0.2", "--device", "cpu", "--no-verify", "--output", str(run))
    _command("train", "nets:resnet_m", *NET, *options, *split)
    names = ("--attack", "fgm{epsilon=0.1}", "--detector", ",".join(DETECTORS))
    _command("detect", "fit", str(run), *names, "--output", str(det), "--device", "cpu")
    found = load_detector(det)
    images = torch.rand(PICTURES, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    write_pictures(root / "pictures", images)
    assert len(found.detectors) == len(DETECTORS)
    for folder in (run, det):
        _add_mine(folder)


def warm_up(root: Path) -> None:
    """Use each folder once here, so that forks import nothing that they share."""
    for use, name in ((_call_program, "program"), (_call_part, "part"), (_call_kept, "run")):
        use(root / name)
    _score(root / "det")
    for name in ("detect", "evaluate", "export", "train"):
        import_module(f"fxtransport.cli.{name}")


def _add_mine(folder: Path) -> None:
    for mine in MINE:
        (folder / mine).write_text("mine")


def _command(*arguments: str) -> None:
    """A command line, in this process, which goes on if it succeeds."""
    from tests.cli.running import in_process

    result = in_process(*arguments)
    assert result.exit_code == 0, result.stderr


def _line(*arguments: str) -> int:
    """A command line, which ends in SystemExit."""
    cli(list(arguments), prog_name="fxtransport")
    return 0


def _printed(numbers: Callable[[Path], Any]) -> Callable[[Path], int]:
    """Print what a function of the library finds, or its error as a command does."""

    def use(folder: Path) -> int:
        try:
            print(json.dumps(numbers(folder)))  # noqa: T201 - what is compared
        except FxTransportError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201
            return error.exit_code
        return 0

    return use


def _inputs(module: torch.nn.Module, *shape: int) -> torch.Tensor:
    """Inputs in the precision of a module's weights."""
    inputs = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    return inputs.to(next(module.parameters()).dtype)


@torch.no_grad()
def _call_program(folder: Path) -> Any:
    program = load(folder, trust_files=True).eval()
    return program(_inputs(program, 1, 8, 8)).tolist()


@torch.no_grad()
def _call_part(folder: Path) -> Any:
    part = load_part(folder, trust_files=True).eval()
    return part(_inputs(part, 8, 8, 8)).hidden.tolist()


@torch.no_grad()
def _call_kept(folder: Path) -> Any:
    run = load_run(folder, epoch=1, trust_files=True)
    logits = run.program.eval()(_inputs(run.program, 1, 8, 8))
    return logits.tolist(), run.data.description, run.best and asdict(run.best)


def _score(folder: Path) -> Any:
    found = load_detector(folder)
    images = torch.rand(PICTURES, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    said = {name: found.score(images, name) for name in found.detectors}
    rows = {name: [each.scores.tolist(), each.p_values.tolist()] for name, each in said.items()}
    return rows, found.fitted_on.to_json(), found.fitted_hashes, found.calibration_hashes


def _evaluated(_: Path, said: str) -> Any:
    found = json.loads(said)
    # where it is, and how fast it was
    del found["run"], found["samples_per_second"]
    return found


def _exported(folder: Path, _: str) -> Any:
    return tensors_hash(load_file(folder.parent / "exported").values())


def _finished(folder: Path, _: str) -> Any:
    # its name has the hash of all tensors
    found = json.loads((folder / CHECKPOINT).read_text())
    return [found["tensors"], found["best"], json.loads((folder / "results.json").read_text())]


def subjects(root: Path) -> tuple[Subject, ...]:
    """All uses of the folders that were written below a root."""
    trusted, pictures = "--trust-files", str(root / "pictures")

    def export(folder: Path) -> int:
        return _line("export", str(folder), trusted, "--output", str(folder.parent / "exported"))

    return (
        Subject("program, called", "program", _printed(_call_program)),
        Subject("part, called", "part", _printed(_call_part)),
        Subject(
            "run, evaluated",
            "run",
            lambda folder: _line("evaluate", str(folder), trusted, "--last", "--json"),
            _evaluated,
        ),
        Subject("run, exported", "watched", export, _exported),
        Subject("run, after an epoch", "run", _printed(_call_kept)),
        Subject(
            "run, resumed",
            "run",
            lambda folder: _line("train", "--resume", str(folder), trusted),
            _finished,
        ),
        Subject("detector, all scores", "det", _printed(_score)),
        Subject(
            "detector, verdicts",
            "det",
            lambda folder: _line("detect", "score", str(folder), pictures, "--json"),
        ),
    )
