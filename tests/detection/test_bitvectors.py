import numpy as np
import pytest

from fxtransport.detection.bitvectors import MOST_LEAVES, BitVectors, Nodes


def comb(leaves: int) -> Nodes:
    """One tree on one column whose leaf i, with value i, holds what is in (i − 1, i]."""
    inner = leaves - 1
    size = 2 * leaves - 1
    at = np.arange(size, dtype=np.int32)
    chain = at < inner
    last = np.where(at + 1 < inner, at + 1, size - 1)
    return Nodes(
        roots=np.zeros(1, np.int32),
        feature=np.where(chain, 0, -1).astype(np.int32),
        threshold=np.where(chain, at, 0).astype(np.float32),
        left=np.where(chain, inner + at, -1).astype(np.int32),
        right=np.where(chain, last, -1).astype(np.int32),
        value=np.where(chain, 0, at - inner).astype(np.float32),
    )


@pytest.mark.parametrize("leaves", [1, 2, 3, 33, MOST_LEAVES])
def test_the_leaf_of_a_row(leaves: int) -> None:
    """Every leaf up to the last of 64, whose word has its highest bit alone."""
    rows = np.arange(-1, 2 * leaves, dtype=np.float32)[:, None] / 2
    expected = np.clip(np.ceil(rows[:, 0]), 0, leaves - 1)
    assert BitVectors(comb(leaves)).sums(rows) == pytest.approx(expected)


def test_more_rows_than_are_taken_at_once() -> None:
    rows = np.random.default_rng(0).uniform(-1, 9, size=(1300, 1)).astype(np.float32)
    expected = np.clip(np.ceil(rows[:, 0]), 0, 7)
    assert BitVectors(comb(8)).sums(rows) == pytest.approx(expected)
