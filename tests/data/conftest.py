"""A tiny CIFAR10 for tests of images."""

from pathlib import Path

import pytest

from tests.data.making import write_cifar


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_cifar(tmp_path, train=60, test=12, patch=monkeypatch)
    return tmp_path
