"""The order and all that is random depend on the seed, the epoch and the position alone."""

import random
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.data.mixup import Mixup

from fxtransport.data import OrderedStream, ShuffledStream, TensorSamples
from fxtransport.data.streams import Batch, Subset
from fxtransport.errors import UsageError


@dataclass(frozen=True)
class Noisy:
    """Images that each of the three global generators changes when they are fetched."""

    count: int

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Sequence[int]) -> Batch:
        images = torch.rand(len(indices), 3, 4, 4) + float(np.random.rand()) + random.random()
        return images, torch.tensor(indices) % 5


@dataclass(frozen=True)
class Broken:
    """Samples of which one cannot be read."""

    def __len__(self) -> int:
        return 6

    def batch(self, indices: Sequence[int]) -> Batch:
        if 5 in indices:
            raise UsageError("number 5: cannot be read")
        return torch.zeros(len(indices)), torch.tensor(indices)


@dataclass(frozen=True)
class Handlers:
    """Tells whether the process that fetches ignores Ctrl-C, and whether SIGTERM ends it."""

    def __len__(self) -> int:
        return 1

    def batch(self, indices: Sequence[int]) -> Batch:
        ignores = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        ends = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        return torch.tensor([ignores]), torch.tensor([ends])


def numbered(count: int) -> TensorSamples:
    return TensorSamples(torch.arange(float(count)), torch.arange(count))


def drawn(batches: Iterable[Batch]) -> list[int]:
    return [int(target) for _, targets in batches for target in targets]


def states() -> tuple[Any, ...]:
    """What the global generators would give next."""
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index, union-attr]


def assert_same(found: Iterable[Batch], expected: Iterable[Batch]) -> None:
    found, expected = list(found), list(expected)
    assert len(found) == len(expected)
    for (images, targets), (other_images, other_targets) in zip(found, expected, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(targets, other_targets)


@given(
    count=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    drop_last=st.booleans(),
    epoch=st.integers(0, 3),
    data=st.data(),
)
def test_an_epoch_is_a_permutation_that_can_be_entered_anywhere(
    count: int, batch_size: int, drop_last: bool, epoch: int, data: st.DataObject
) -> None:
    stream = ShuffledStream(numbered(count), batch_size, seed=3, drop_last=drop_last)
    batches = list(stream.epoch(epoch))
    assert len(batches) == len(stream)
    assert sum(len(targets) for _, targets in batches) == stream.num_samples
    order = drawn(batches)
    assert (
        len(set(order)) == len(order) == (count // batch_size * batch_size if drop_last else count)
    )
    start = data.draw(st.integers(0, len(stream)))
    assert_same(stream.epoch(epoch, start), batches[start:])


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    streams = [ShuffledStream(numbered(50), 10, seed) for seed in (0, 1)]
    orders = [drawn(stream.epoch(n)) for stream in streams for n in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert orders[1] == drawn(ShuffledStream(numbered(50), 7, seed=0).epoch(1))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mixup", [False, True])
def test_what_is_random_is_so_again(workers: int, mixup: bool) -> None:
    mix = Mixup(mixup_alpha=1.0, cutmix_alpha=1.0, num_classes=5) if mixup else None

    def stream(num_workers: int) -> ShuffledStream:
        return ShuffledStream(Noisy(20), 4, seed=9, num_workers=num_workers, mix=mix)

    whole = list(stream(0).epoch(2))
    random.seed(77)
    np.random.seed(77)
    torch.manual_seed(77)
    assert_same(stream(workers).epoch(2), whole)
    assert_same(stream(workers).epoch(2, start=3), whole[3:])
    images = torch.stack([images for images, _ in whole])
    assert len(images.flatten(1).unique(dim=0)) == len(whole)
    other = next(iter(stream(0).epoch(3)))
    assert not torch.equal(other[0], whole[0][0])


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generators_are_left_alone(workers: int) -> None:
    train = ShuffledStream(Noisy(6), 2, seed=0, num_workers=workers)
    ordered = OrderedStream(Noisy(6), 2, num_workers=workers)
    before = states()
    batches = train.epoch(0)
    next(batches)
    assert states() == before
    dropout = torch.rand(3)
    torch.manual_seed(0)
    assert_same(batches, train.epoch(0, start=1))
    assert torch.equal(dropout, torch.rand(3, generator=torch.Generator().manual_seed(0)))
    before = states()
    assert len(list(ordered)) == 3
    assert states() == before


def test_evaluation_sees_everything_once_and_in_order() -> None:
    stream = OrderedStream(numbered(7), 3)
    assert (stream.num_samples, len(stream)) == (7, 3)
    assert drawn(stream) == drawn(stream) == list(range(7))


def test_a_subset_renumbers() -> None:
    stream = OrderedStream(Subset(numbered(9), (8, 2, 5)), 2)
    assert drawn(stream) == [8, 2, 5]


def test_no_epoch_starts_after_its_end() -> None:
    stream = ShuffledStream(numbered(5), 2, seed=0)
    assert list(stream.epoch(0, start=3)) == []
    with pytest.raises(ValueError, match="an epoch has 3 batches: it cannot start at 4"):
        stream.epoch(0, start=4)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_users_error_arrives_whole(workers: int) -> None:
    with pytest.raises(UsageError, match=r"^number 5: cannot be read$"):
        list(OrderedStream(Broken(), 2, num_workers=workers))


def test_workers_leave_signals_to_the_parent() -> None:
    """Ctrl-C reaches all processes; a handler of the parent must not keep its workers alive."""
    before = [signal.signal(s, lambda *_: None) for s in (signal.SIGINT, signal.SIGTERM)]
    try:
        [(ignores, ends)] = OrderedStream(Handlers(), 1, num_workers=1)
        assert (ignores.item(), ends.item()) == (True, True)
        [(ignores, ends)] = OrderedStream(Handlers(), 1)
        assert (ignores.item(), ends.item()) == (False, False)
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
