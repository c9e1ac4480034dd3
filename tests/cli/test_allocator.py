"""Training starts with jemalloc where it is installed, unless the user has chosen."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fxtransport.cli.allocator
from fxtransport.allocators import GLIBC_SETTINGS, JEMALLOC_SETTINGS, jemalloc_library
from fxtransport.cli.allocator import STARTED, start_with_jemalloc

SCRIPT = "/usr/bin/fxtransport"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="libraries are loaded ahead on it")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been started again, on a machine with jemalloc."""
    found: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *given: found.append(given))
    module = fxtransport.cli.allocator
    monkeypatch.setattr(module, "jemalloc_library", lambda: "libjemalloc.so.2")
    for name in (*GLIBC_SETTINGS, *JEMALLOC_SETTINGS, STARTED):
        monkeypatch.delenv(name, raising=False)
    return found


@pytest.mark.parametrize("command", ["train", "transfer"])
def test_training_starts_again(started: list[Any], command: str) -> None:
    start_with_jemalloc([SCRIPT, command, "resnet18"])
    [(python, arguments, environment)] = started
    assert (python, arguments) == (sys.executable, [sys.executable, *sys.orig_argv[1:]])
    assert environment == os.environ | {"LD_PRELOAD": "libjemalloc.so.2", STARTED: "1"}


@pytest.mark.parametrize(
    "argv",
    [[SCRIPT], [SCRIPT, "split", "train"], ["my_script.py", "train"], ["-c", "train"]],
    ids=["no command", "another command", "another script", "code"],
)
def test_nothing_else_does(started: list[Any], argv: list[str]) -> None:
    start_with_jemalloc(argv)
    assert not started


@pytest.mark.parametrize("name", [*GLIBC_SETTINGS, *JEMALLOC_SETTINGS])
def test_what_the_user_has_chosen_stays(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    start_with_jemalloc([SCRIPT, "train"])
    assert not started
    assert os.environ[name] == "1"


def test_without_jemalloc_the_process_goes_on(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fxtransport.cli.allocator, "jemalloc_library", lambda: None)
    start_with_jemalloc([SCRIPT, "train"])
    assert not started


def test_processes_of_training_do_not_inherit_it(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STARTED, "1")
    monkeypatch.setenv("LD_PRELOAD", "libjemalloc.so.2")
    start_with_jemalloc([SCRIPT, "train"])
    assert not started
    assert not {STARTED, "LD_PRELOAD"} & set(os.environ)


@pytest.mark.skipif(jemalloc_library() is None, reason="jemalloc is not installed")
def test_the_console_script_has_jemalloc(tmp_path: Path) -> None:
    script = tmp_path / "fxtransport"
    script.write_text(
        "import os, sys\n"
        "from fxtransport.cli.allocator import start_with_jemalloc\n"
        "start_with_jemalloc(sys.argv)\n"
        "from fxtransport.training.jemalloc import find_jemalloc\n"
        "print(find_jemalloc() is not None, os.environ.get('LD_PRELOAD'), *sys.argv[1:])\n"
    )
    chosen = (*GLIBC_SETTINGS, *JEMALLOC_SETTINGS)
    plain = {name: value for name, value in os.environ.items() if name not in chosen}
    command = [sys.executable, str(script), "train", "resnet18"]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "None", "train", "resnet18"]
