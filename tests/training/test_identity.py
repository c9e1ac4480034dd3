"""A run goes on with its data and its settings, or an error names what differs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fxtransport.data import OrderedStream, ShuffledStream, TensorSamples
from fxtransport.errors import CheckpointError
from fxtransport.training import Parallel
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.identity import check_same_data, check_same_run, describe_data
from tests.training.runs import samples, train_stream, trainer_of, validation_stream


def changed(stream: ShuffledStream | OrderedStream) -> Any:
    """The same stream, of which one value is another."""
    held = stream.samples
    assert isinstance(held, TensorSamples)
    inputs = held.inputs.clone()
    inputs[-1, 0, 0, 0] += 1
    other = TensorSamples(inputs, held.targets)
    if isinstance(stream, OrderedStream):
        return OrderedStream(other, stream.batch_size)
    return ShuffledStream(other, stream.batch_size, stream.seed)


def reseeded() -> ShuffledStream:
    return ShuffledStream(samples(22), 8, seed=4)


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (lambda: (changed(train_stream()), validation_stream(), None), "train.content"),
        (lambda: (train_stream(), changed(validation_stream()), None), "validation.content"),
        (lambda: (reseeded(), validation_stream(), None), "train.seed was 3 and is 4"),
        (lambda: (train_stream(21), validation_stream(), None), "train.samples was 22 and is 21"),
    ],
)
def test_other_data_is_named(
    splits: Callable[[], tuple[Any, ...]], words: str, tmp_path: Path
) -> None:
    trainer_of(Parallel(1), tmp_path).fit(train_stream(), validation_stream())
    again = trainer_of(Parallel(1), tmp_path)
    again.restore()
    with pytest.raises(CheckpointError, match=f"the run began with other data: {words}"):
        again.fit(*splits())


def test_batches_that_do_not_tell_are_not_compared(tmp_path: Path) -> None:
    trainer_of(Parallel(1), tmp_path).fit(train_stream(), validation_stream())
    known = RunFolder(tmp_path).read().summary["data"]
    again = trainer_of(Parallel(1), tmp_path)
    again.restore()
    again.fit([(torch.zeros(1, 2, 4, 4), torch.tensor([0]))] * 3)
    again.save()
    assert RunFolder(tmp_path).read().summary["data"] == known == {**known, "test": None}


def test_what_is_said_beside_is_kept_by_a_trainer_that_does_not_know_it(tmp_path: Path) -> None:
    about = {"config": {"trainer.seed": 3}}
    trainer_of(Parallel(1), tmp_path, about=about).fit(train_stream())
    again = trainer_of(Parallel(1), tmp_path)
    again.restore()
    again.save()
    assert RunFolder(tmp_path).read().summary["about"] == about


def test_nested_differences_are_named_in_one_line() -> None:
    with pytest.raises(CheckpointError) as raised:
        check_same_run({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": "two\n lines"}}})
    assert str(raised.value) == (
        "the checkpoint is of a run with another a.b.c: 1; this run has two lines"
    )
    with pytest.raises(CheckpointError, match=r"another settings\.seed: None; this run has 3"):
        check_same_run({"settings": {}}, {"settings": {"seed": 3}})


def test_a_split_that_one_side_lacks_is_not_compared() -> None:
    data = describe_data(train_stream(), validation_stream(), None)
    check_same_data({}, data)
    check_same_data(data, describe_data(train_stream(), None, validation_stream()))
    assert data["validation"]["samples"] == 16
