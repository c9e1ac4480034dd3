"""Epochs of a loader are what they were, wherever a run was resumed."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fxtransport.errors import UsageError
from fxtransport.training.batches import RepeatedBatches, epochs_of
from tests.training.runs import train_stream


class Noisy(Dataset[Tensor]):
    """Numbers with noise from every global generator."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Tensor:
        noise = torch.rand(()) + random.random() + float(np.random.rand())
        return torch.tensor([float(index), noise.item()])


def test_a_loader_is_a_function_of_seed_epoch_and_position() -> None:
    loader = DataLoader(Noisy(), batch_size=3, shuffle=True)
    epochs = epochs_of(loader, 7)
    assert len(epochs) == 4
    whole = torch.cat(list(epochs.epoch(2)))
    torch.rand(3)
    assert torch.equal(torch.cat(list(epochs.epoch(2))), whole)
    assert torch.equal(torch.cat(list(epochs.epoch(2, start=2))), whole[6:])
    assert not torch.equal(torch.cat(list(epochs.epoch(3))), whole)
    assert not torch.equal(torch.cat(list(epochs_of(loader, 8).epoch(2))), whole)
    assert sorted(whole[:, 0].tolist()) == list(range(10))


def test_the_global_generators_are_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    for _ in epochs_of(DataLoader(Noisy(), shuffle=True), None).epoch(0):
        pass
    assert torch.equal(torch.rand(2), expected)


def test_a_stream_is_used_as_it_is() -> None:
    stream = train_stream()
    assert epochs_of(stream, 0) is stream
    assert isinstance(epochs_of([1, 2], 0), RepeatedBatches)


def test_iterators_are_refused() -> None:
    def numbers() -> Iterator[Any]:
        yield 1

    with pytest.raises(UsageError, match="read again in every epoch"):
        epochs_of(numbers(), 0)  # type: ignore[arg-type]
