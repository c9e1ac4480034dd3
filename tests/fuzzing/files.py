"""Files of saved programs and of runs, damaged at random: each use is as before, or one error.

What is damaged is a copy of a folder. A use returns numbers; they are those of the whole folder,
or the use ends in one line of an error of ours. Files of the user's that lie in the folder stay.
"""

import json
import os
import random
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from fxtransport import compile_named, load, load_part, save, save_part
from fxtransport.errors import FxTransportError
from fxtransport.runs.config import complete_config
from fxtransport.runs.fit import fit_run
from fxtransport.runs.identity import read_run
from fxtransport.runs.load import load_run
from fxtransport.runs.recipe import make_recipe
from fxtransport.training import Observer, Position, StepReport, evaluate
from fxtransport.training.checkpoint import CHECKPOINT, content_hash
from fxtransport.training.metrics import LostMetricsWarning
from tests import networks

RIGHT = ("same", "refused")
SECONDS = 20
"""The longest that a use may take."""
MINE = ("notes.new", "best-mine.safetensors", "last-0123456789abcdef.safetensors")
"""Files of the user's in each folder."""
ODD = (None, True, -1, 0, 3, 7, 1e-2, 1e300, 10**29, float("nan"), "x", "../x", [], {}, [[1]])
"""What takes the place of values."""


@dataclass(frozen=True)
class Subject:
    """A folder, and what is done with it."""

    name: str
    folder: Path
    use: Callable[[Path], Any]
    """From a folder to numbers."""


@dataclass(frozen=True)
class Verdict:
    """What became of one damaged folder."""

    seed: int
    subject: str
    mutation: str
    verdict: str
    """``same``, ``refused``, ``other numbers``, ``foreign error``, ``several lines``, ``hang`` or
    ``touched``: a file of the user's is gone or changed."""
    message: str


class Stop(Observer):
    """Ends a run in its second phase, when hidden states have been kept."""

    def on_step(self, step: StepReport, position: Position) -> None:
        if position.phase == 1:
            raise KeyboardInterrupt


def make_subjects(root: Path) -> list[Subject]:
    """A saved program, a saved part, and a run: measured, and gone on with."""
    file = shutil.copyfile(networks.__file__, root / "net.py")
    torch.manual_seed(0)
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
    }
    recipe = make_recipe(complete_config(values))
    with suppress(KeyboardInterrupt):
        fit_run(root / "run", recipe, recipe.program(), resume=False, observers=[Stop()])
    for name in ("program", "part", "run"):
        for mine in MINE:
            (root / name / mine).write_text("mine")
    return [
        Subject("program", root / "program", _use_program),
        Subject("part", root / "part", _use_part),
        Subject("run, measured", root / "run", _measure_run),
        Subject("run, gone on with", root / "run", _resume_run),
    ]


def _inputs(*shape: int) -> torch.Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))


def _use_program(folder: Path) -> Any:
    program = load(folder, trust_files=True).eval()
    with torch.no_grad():
        return program(_inputs(1, 8, 8)).tolist()


def _use_part(folder: Path) -> Any:
    part = load_part(folder, trust_files=True).eval()
    with torch.no_grad():
        return part(_inputs(8, 8, 8)).hidden.tolist()


def _measure_run(folder: Path) -> Any:
    run = load_run(folder, last=True, trust_files=True)
    assert run.data.validation is not None
    exits = evaluate(run.program, run.data.validation, parts=run.exits)
    return exits, run.epochs, run.best, run.data.description


def _resume_run(folder: Path) -> Any:
    recipe = make_recipe(read_run(folder))
    report = fit_run(folder, recipe, recipe.program(new=False), resume=True)
    # its name has the hash of all tensors
    return json.loads((folder / CHECKPOINT).read_text())["tensors"], report


class _Hang(BaseException):
    """A use took too long; no code may catch it."""


@contextmanager
def _limit() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise _Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(root: Path, seeds: range) -> Iterator[Verdict]:
    """The verdicts on the damages of some seeds.

    Args:
        root: A folder to work in.
        seeds: One for each damage.
    """
    subjects = make_subjects(root)
    expected = []
    for subject in subjects:
        whole = Path(shutil.copytree(subject.folder, root / "whole"))
        expected.append(subject.use(whole))
        shutil.rmtree(whole)
    for seed in seeds:
        number = seed % len(subjects)
        yield judge(root, subjects[number], expected[number], seed)


def judge(root: Path, subject: Subject, expected: Any, seed: int) -> Verdict:
    """Damage a copy of a folder, and use it."""
    draw = random.Random(seed)
    folder = Path(shutil.copytree(subject.folder, root / "damaged"))
    files = sorted(p for p in folder.iterdir() if p.name not in MINE)
    mutation = draw.choice(MUTATIONS)
    said = mutation(draw, draw.choice(files), files)
    name = mutation.__name__.strip("_").replace("_", " ")
    # who forges a checkpoint with its hash may write other numbers into it
    forged = mutation is _under_right_hash and subject.name.startswith("run")
    verdict, message = _used(subject, folder, expected, may_differ=forged)
    if not all(_is_mine(folder / name) for name in MINE) or not _is_as_it_was(root / "elsewhere"):
        verdict = "touched"
    shutil.rmtree(folder)
    return Verdict(seed, subject.name, f"{name}: {said}", verdict, message)


def _is_mine(path: Path) -> bool:
    return path.is_file() and path.read_text() == "mine"


def _is_as_it_was(elsewhere: Path) -> bool:
    """Whether a file to which a link led was not written."""
    if not elsewhere.exists():
        return True
    same = elsewhere.read_bytes() == elsewhere.with_suffix(".copy").read_bytes()
    elsewhere.unlink()
    return same


def _used(subject: Subject, folder: Path, expected: Any, *, may_differ: bool) -> tuple[str, str]:
    try:
        with _limit(), warnings.catch_warnings():
            # rows that are lost are said
            warnings.simplefilter("ignore", LostMetricsWarning)
            found = subject.use(folder)
    except FxTransportError as error:
        several = "\n" in str(error) or len(str(error)) > 1200
        return ("several lines" if several else "refused"), str(error)
    except _Hang:
        return "hang", ""
    except Exception as error:  # noqa: BLE001 - any other one is what is looked for
        return "foreign error", f"{type(error).__name__}: {error}"
    return ("same", "") if found == expected or may_differ else ("other numbers", str(found))


def _truncated(draw: random.Random, path: Path, _: list[Path]) -> str:
    kept = draw.randrange(max(path.stat().st_size, 1))
    os.truncate(path, kept)
    return f"{path.name} to {kept}"


def _with_a_flipped_bit(draw: random.Random, path: Path, _: list[Path]) -> str:
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content))
    content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return f"{path.name} at {place}"


def _with_zeros(draw: random.Random, path: Path, _: list[Path]) -> str:
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice([1, 16, 4096]))
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    return f"{path.name} from {start} to {end}"


def _with_more(draw: random.Random, path: Path, _: list[Path]) -> str:
    with path.open("ab") as file:
        file.write(draw.choice([b"\0", b"{}", b"\n[data]\n", b"\xff" * 64, b"1,2,3\n"]))
    return path.name


def _swapped(draw: random.Random, path: Path, files: list[Path]) -> str:
    other = draw.choice(files)
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)
    return f"{path.name} and {other.name}"


def _missing(_: random.Random, path: Path, __: list[Path]) -> str:
    path.unlink()
    return path.name


def _of_another_kind(draw: random.Random, path: Path, _: list[Path]) -> str:
    elsewhere = path.parent.parent / "elsewhere"
    shutil.copyfile(path, elsewhere)
    shutil.copyfile(path, elsewhere.with_suffix(".copy"))
    path.unlink()
    kind = draw.choice(["link", "broken link", "folder", "pipe"])
    match kind:
        case "link":
            path.symlink_to(elsewhere)
        case "broken link":
            path.symlink_to("nowhere")
        case "folder":
            path.mkdir()
        case _:
            os.mkfifo(path)
    return f"{path.name} is a {kind}"


def _huge(_: random.Random, path: Path, __: list[Path]) -> str:
    os.truncate(path, 2**40)
    return path.name


def _with_another_value(draw: random.Random, path: Path, files: list[Path]) -> str:
    """Of JSON, anywhere; of text, a line."""
    texts = [p for p in files if p.suffix in (".json", ".toml", ".csv", ".txt", ".py")]
    path = draw.choice(texts)
    if path.suffix == ".json":
        found = json.loads(path.read_text())
        said = _change(draw, found)
        path.write_text(json.dumps(found))
        return f"{path.name} {said}"
    lines = path.read_text().splitlines()
    place = draw.randrange(len(lines))
    before = lines[place]
    key, equals, _ = before.partition(" = ")
    values = ["1", "2", "0.5", "true", "'x'", "[]", "{}", "1e300", "1" + "0" * 29, "nan"]
    lines[place] = f"{key} = {draw.choice(values)}" if equals else draw.choice(["", "x", ",,,"])
    if draw.random() < 0.2:
        del lines[place]
    path.write_text("\n".join(lines) + "\n")
    return f"{path.name}, line {place + 1}: {before[:60]}"


def _under_right_hash(draw: random.Random, path: Path, files: list[Path]) -> str:
    """As someone does who knows how checkpoints are written; elsewhere as above."""
    file = path.parent / CHECKPOINT
    if not file.exists():
        return _with_another_value(draw, path, files)
    found = json.loads(file.read_text())
    del found["sha256"]
    said = _change(draw, found)
    file.write_text(json.dumps({**found, "sha256": content_hash(found)}))
    return said


def _change(draw: random.Random, found: Any) -> str:
    """Replace, remove or repeat a value somewhere inside lists and objects."""
    place = ""
    while True:
        keys = list(found) if isinstance(found, dict) else range(len(found))
        key = draw.choice(list(keys))
        inner, place = found[key], f"{place}.{key}"
        if not isinstance(inner, dict | list) or not inner or draw.random() < 0.1:
            break
        found = inner
    if draw.random() < 0.2:
        del found[key]
        return f"{place} removed"
    near = [inner + 1, inner * 2] if type(inner) in (int, float) else []
    found[key] = draw.choice([*ODD, *near])
    return f"{place} = {found[key]!r:.40}"


MUTATIONS: tuple[Callable[[random.Random, Path, list[Path]], str], ...] = (
    _truncated,
    _with_a_flipped_bit,
    _with_zeros,
    _with_more,
    _swapped,
    _missing,
    _of_another_kind,
    _huge,
    _with_another_value,
    _with_another_value,
    _with_another_value,
    _under_right_hash,
    _under_right_hash,
)
