"""What tests share: one thread per worker, seeds, no network, golden files, small networks."""

import ctypes
import os
import random
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import nn

from tests import networks
from tests.networks import OverwritingNet
from tests.saved_programs import save_to

settings.register_profile("fxtransport", deadline=None, derandomize=True)
settings.load_profile("fxtransport")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the golden files instead of comparing with them",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Workers share the cores; more threads than that only get in each other's way.
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
    # A shell ignores Ctrl-C for what it runs in the background; tests of it must not.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collectstart(collector: pytest.Collector) -> None:
    # What a file of tests draws while it is imported is the same in every run.
    if isinstance(collector, pytest.Module):
        _seed()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten."""
    return bool(request.config.getoption("--update-golden"))


def _seed() -> None:
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    _seed()


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Refuse every connection that leaves the machine: nothing is fetched unless asked for."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: Any) -> None:
        local = self.family == socket.AF_UNIX or address[0] in {"127.0.0.1", "::1", "localhost"}
        if not local:
            raise AssertionError(f"a test tried to reach the network: {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_locally)
        yield


@pytest.fixture
def net() -> OverwritingNet:
    """A small network with trained-looking batch norms."""
    torch.manual_seed(0)
    net = OverwritingNet()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.normal_()
            module.weight.data.normal_()
    return net


@pytest.fixture
def images() -> torch.Tensor:
    """Five images."""
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the small networks, to name them as ``nets.py:Net``."""
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    return Path(shutil.copyfile(networks.__file__, path))


@pytest.fixture(scope="session")
def saved(nets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program of two parts, of ``nets.py:VectorNet``; tests may not change it."""
    folder = tmp_path_factory.mktemp("programs") / "net"
    save_to(folder, f"{nets}:VectorNet")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "net"))


@pytest.fixture(autouse=True)
def _frames_run_as_before() -> Iterator[None]:
    """Python runs frames as it did before the test.

    After an error in compiled code torch leaves its own evaluation of frames in place, in which
    a call keeps its arguments alive until it returns.
    """
    python: Any = ctypes.pythonapi
    get = python._PyInterpreterState_GetEvalFrameFunc
    put = python._PyInterpreterState_SetEvalFrameFunc
    python.PyInterpreterState_Get.restype = get.restype = ctypes.c_void_p
    get.argtypes, put.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_void_p]
    interpreter = python.PyInterpreterState_Get()
    before = get(interpreter)
    yield
    put(interpreter, before)
