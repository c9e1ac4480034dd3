"""Of two processes, one trains in a folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fxtransport.errors import CheckpointError
from fxtransport.training import lock
from fxtransport.training.lock import LockWarning, locked

HOLD = """
import sys, time
from pathlib import Path
from fxtransport.training.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("name", ["run", "link"])
def test_a_folder_in_use_is_refused_until_the_process_is_gone(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("run")
    folder = tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(CheckpointError, match=r"another process trains in .*wait"):
            locked(tmp_path / name).__enter__()
        other.send_signal(signal.SIGKILL)
    with locked(tmp_path / name):
        assert list(folder.iterdir()) == []


def test_contexts_of_one_process_may_be_inside_each_other(tmp_path: Path) -> None:
    with locked(tmp_path / "run"), locked(tmp_path / "run"):
        assert len(lock._HELD) == 1
    assert lock._HELD == {}


def test_a_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            os.write(writer, b"!")
            time.sleep(60)
            os._exit(0)
        assert os.read(reader, 1) == b"!"
    try:
        # the child is still there
        with locked(tmp_path):
            assert lock._HELD
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with (
        pytest.warns(LockWarning, match="cannot be locked: Operation not supported"),
        locked(tmp_path),
    ):
        pass


def test_what_cannot_be_a_folder_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write into"), locked(tmp_path / "file" / "a"):
        pass
