"""A run is what it was when it began: its configuration and its data are compared."""

import os
import shutil
from pathlib import Path

import pytest

from fxtransport.errors import CheckpointError, UsageError
from fxtransport.runs.config import complete_config
from fxtransport.runs.identity import check_same_config, describe_config, read_run
from fxtransport.runs.load import load_run
from fxtransport.training.checkpoint import Checkpoint, RunFolder
from tests.cli.running import Command, in_process, trained
from tests.data.making import gray, write_folder

EDITS = {
    "trainer.seed": ("seed = 0", "seed = 1"),
    "data.batch_size": ("batch_size = 50", "batch_size = 40"),
    "data.test": ("test = 0.2", "test = 0.3"),
    "data.transform": ("[data]\n", '[data]\ntransform = { interpolation = "nearest" }\n'),
    "data.augmentation": ("[data]\n", "[data]\naugmentation = { padding = 1 }\n"),
    "trainer.ema": ("[trainer]\n", "[trainer]\nema = 0.5\n"),
    "data.train_samples": ("train_samples = 200\n", ""),
    "optimizer.lr": ("lr = 0.1", "lr = 0.2"),
}
"""What may be edited in a ``config.toml``, by the key that an error must name."""
COMMANDS = {
    "evaluate": lambda run: ("evaluate", run, "--split", "test", "--trust-files"),
    "export": lambda run: ("export", run, "-o", f"{run}.safetensors", "--trust-files"),
    "resume": lambda run: ("train", "--resume", run, "--trust-files"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model is in a file; tests may not change it."""
    options = ["--method", "trgl", "--modules", "2", "--epochs", "1", "--lr", "0.1"]
    return trained(in_process, tmp_path_factory.mktemp("begun") / "run", *options)


@pytest.fixture
def copy(begun: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(begun, tmp_path / "run"))


def edit(run: Path, before: str, after: str) -> None:
    file = run / "config.toml"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


@pytest.mark.parametrize("key", EDITS)
def test_an_edited_configuration_is_refused_with_its_key(key: str, copy: Path) -> None:
    edit(copy, *EDITS[key])
    with pytest.raises(CheckpointError, match=f"changed after the run began: {key} is ") as error:
        read_run(copy)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_it(command: str, copy: Path, run: Command) -> None:
    edit(copy, *EDITS["trainer.seed"])
    result = run(*COMMANDS[command](str(copy)))
    assert result.exit_code == 2
    assert "trainer.seed is 1, and was 0" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    with pytest.raises(CheckpointError, match=r"trainer\.seed is 1, and was 0"):
        load_run(copy, trust_files=True)


@pytest.fixture
def run() -> Command:
    return in_process


def test_what_changes_no_number_may_be_edited(copy: Path) -> None:
    edit(copy, "num_workers = 0", "num_workers = 1")
    assert read_run(copy)["data.num_workers"] == 1


def test_a_key_that_did_not_exist_has_its_default(copy: Path) -> None:
    """A run of an earlier version says nothing of a key that was added since."""
    edit(copy, "drop_last = false\n", "")
    assert read_run(copy)["data.drop_last"] is False
    check_same_config(copy, read_run(copy))


@pytest.mark.parametrize(("before", "now"), [("auto", "dgl"), ("conv", "dgl_conv"), ("token",) * 2])
def test_a_run_of_before_heads_had_a_budget_keeps_those_of_dgl(
    tmp_path: Path, before: str, now: str
) -> None:
    config = complete_config(
        {"model.name": "resnet18", "program.head": before, "program.head_width": 256}
    )
    text = "".join(line for line in config.to_toml().splitlines(True) if "budget" not in line)
    (tmp_path / "config.toml").write_text(text)
    found = read_run(tmp_path)
    assert found == complete_config({**config.values, "program.head": now})
    described = describe_config(config)
    del described["program.head_budget"]
    RunFolder(tmp_path).write(Checkpoint({"about": {"config": described}}, {}, None))
    assert read_run(tmp_path) == found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "names no model: it is empty, or not what a run wrote"),
        (b"[data]\n", "names no model"),
        (b"[tool.poetry]\nname = 'x'\n", "there is no key 'tool.poetry'"),
        (b"title = 'x'\n", "title is not in a section"),
        (b"\xff\xfe", "is not valid TOML"),
        (b"a = " + b"[" * 5000, "is not valid TOML"),
        (b"a = " + b"1" * 5000, "is not valid TOML"),
        (b"[model]\nname = 3\n", "model.name is a text, not 3"),
        (b"# " + b"x" * 2**20, "the file has more than 1048576 bytes"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "resume"])
def test_a_configuration_of_another_kind_is_one_line(
    content: bytes, words: str, command: str, copy: Path, run: Command
) -> None:
    (copy / "config.toml").write_bytes(content)
    result = run(*COMMANDS[command](str(copy)))
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("kind", ["a link", "a folder", "a pipe"])
def test_what_is_no_file_is_not_read(kind: str, copy: Path) -> None:
    path = copy / "config.toml"
    moved = path.rename(copy.parent / "elsewhere.toml")
    match kind:
        case "a link":
            path.symlink_to(moved)
        case "a folder":
            path.mkdir()
        case _:
            os.mkfifo(path)
    with pytest.raises(UsageError, match=f"{kind} is in the place of config.toml"):
        read_run(copy)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not hold a run of fxtransport train"):
        read_run(tmp_path)


def test_without_a_checkpoint_nothing_is_compared(copy: Path) -> None:
    (copy / "checkpoint.json").unlink()
    edit(copy, *EDITS["trainer.seed"])
    assert read_run(copy)["trainer.seed"] == 1


def test_what_may_change_is_not_described() -> None:
    config = complete_config({"model.name": "resnet18", "trainer.device": "cpu"})
    described = describe_config(config)
    assert described["model.name"] == "resnet18"
    assert "trainer.device" not in described


def test_other_images_are_refused(tmp_path: Path, run: Command) -> None:
    data = tmp_path / "data"
    write_folder(data / "train", {"ant": 20, "bee": 20})
    write_folder(data / "val", {"ant": 4, "bee": 4}, first_level=100)
    write_folder(data / "test", {"ant": 4, "bee": 4}, first_level=110)
    arguments = ("--data", str(data), "--input-size", "3,8,8", "--method", "e2e", "-n", "1")
    folder = tmp_path / "run"
    result = run("train", "nets:resnet_m", *arguments, "--no-verify", "-o", str(folder))
    assert result.exit_code == 0, result.stderr
    assert run("evaluate", str(folder)).exit_code == 0
    gray(200).save(data / "val/ant/100.png")
    for command in ("evaluate", "resume"):
        result = run(*COMMANDS[command](str(folder)))
        assert result.exit_code == 2
        assert "the run began with other data: validation.content was " in result.stderr
    # which reads no image
    assert run(*COMMANDS["export"](str(folder))).exit_code == 0


def test_a_run_of_an_older_version_is_refused_as_a_whole(tmp_path: Path) -> None:
    """Not key by key, since its checkpoint could not be read either."""
    (tmp_path / "config.toml").write_text("[model]\nimage_size = 8\n")
    (tmp_path / "checkpoint.json").write_text('{"format": 1}')
    with pytest.raises(CheckpointError, match=r"format 1; .*made by fxtransport 0\.1.*train again"):
        read_run(tmp_path)
