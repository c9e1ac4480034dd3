"""All tests that are marked ``cuda``, where there is no device: under a runtime without one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.cuda.building import CannotBuildError, build

TESTS = Path(__file__).parent.parent
NEEDS_HARDWARE = {
    "tests/test_program.py::test_on_cuda": "runs Triton's kernels",
}
"""Marked tests that cannot run without a device, and why."""


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment variables of a process that uses the runtime."""
    if "TEST_CUDA" not in os.environ:
        pytest.skip("a job of its own: make test-cuda")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device, on which the tests run")
    try:
        return build(tmp_path_factory.mktemp("cuda"), torch.version.cuda)
    except CannotBuildError as error:
        pytest.skip(f"cannot build a CUDA runtime: {error}")


def marked() -> list[str]:
    """The files with tests that are marked ``cuda``."""
    mark = re.compile(r"^(@|pytestmark = )pytest\.mark\.cuda$", re.MULTILINE)
    found = sorted(TESTS.rglob("test_*.py"))
    return [
        path.relative_to(TESTS.parent).as_posix()
        for path in found
        if mark.search(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.slow
def test_without_a_device(runtime: dict[str, str]) -> None:
    """In one process, in which the CPU computes what kernels would."""
    deselected = [word for name in NEEDS_HARDWARE for word in ("--deselect", name)]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.cuda.plugin",
        "-m",
        "cuda",
        "--show-capture=no",
    ]
    command += [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-o",
        "addopts=--import-mode=importlib",
        *deselected,
        *marked(),
    ]
    environment = {**os.environ, **runtime}
    # this process may be a worker of pytest-xdist
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        del environment[name]
    done = subprocess.run(
        command, env=environment, cwd=TESTS.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]
    assert re.search(r"= \d+ passed, \d+ deselected in ", done.stdout), done.stdout
