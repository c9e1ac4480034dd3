"""A batch of one sample is seen before the first step, by whatever tells its batches."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fxtransport import transportify
from fxtransport.data import ShuffledStream, TensorSamples
from fxtransport.errors import UsageError
from fxtransport.nets import resnet_m
from fxtransport.objectives import vangl
from fxtransport.program import Program
from fxtransport.training import EndToEnd, Parallel, Trainer, TrainerSettings
from fxtransport.training.last_batch import batch_sizes
from tests.networks import Net, Points

INPUTS, TARGETS = torch.randn(9, 2), torch.randint(2, (9,))
KINDS = ("stream", "loader", "list")


def batches(kind: str, size: int, *, drop_last: bool = False) -> object:
    """Nine points in batches of a size."""
    if kind == "stream":
        return ShuffledStream(TensorSamples(INPUTS, TARGETS), size, 0, drop_last=drop_last)
    if kind == "loader":
        data = TensorDataset(INPUTS, TARGETS)
        return DataLoader(data, batch_size=size, shuffle=True, drop_last=drop_last)
    stop = 9 - 9 % size if drop_last else 9
    return [(INPUTS[i : i + size], TARGETS[i : i + size]) for i in range(0, stop, size)]


def points() -> Program:
    return transportify(nn.Sequential(Points(), Points()), torch.zeros(4, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_told(kind: str) -> None:
    assert batch_sizes(batches(kind, 4)) == (4, 1)
    assert batch_sizes(batches(kind, 5)) == (5, 4)
    assert batch_sizes(batches(kind, 4, drop_last=True)) == (4,)
    assert batch_sizes(batches(kind, 3)) == (3,)
    assert batch_sizes(batches(kind, 20)) == (9,)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_refused_before_the_first_step(kind: str) -> None:
    program = points()
    before = {name: value.clone() for name, value in program.state_dict().items()}
    trainer = Trainer(program, vangl(), EndToEnd(1))
    with pytest.raises(UsageError, match=r"leave it out with drop_last=True"):
        trainer.fit(batches(kind, 4))  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in program.state_dict().items())
    trainer.fit(batches(kind, 4, drop_last=True))  # type: ignore[arg-type]


def test_a_norm_over_positions_takes_one_image() -> None:
    images, targets = torch.randn(5, 3, 8, 8), torch.randint(5, (5,))
    program = transportify(Net(2), torch.zeros(2, 3, 8, 8))
    uneven = [(images[:4], targets[:4]), (images[4:], targets[4:])]
    assert Trainer(program, vangl(), EndToEnd(1)).fit(uneven).position.steps == 2


def test_the_norms_of_classifiers_count() -> None:
    images, targets = torch.randn(5, 1, 8, 8), torch.randint(10, (5,))
    uneven = [(images[:4], targets[:4]), (images[4:], targets[4:])]
    model = resnet_m(blocks=2, channels=4, image_size=8)
    program = transportify(model, torch.zeros(2, 1, 8, 8), modules=2)
    with pytest.raises(UsageError, match="the last batch is a single sample"):
        Trainer(program, vangl(), Parallel(1)).fit(uneven)


@pytest.mark.parametrize(
    ("size", "accumulate", "words"),
    [
        (3, 2, "a piece of the last batch is .*choose a batch size that accumulate divides"),
        (1, 1, "a batch is .*choose a larger batch size"),
    ],
)
def test_pieces_of_batches_count(size: int, accumulate: int, words: str) -> None:
    settings = TrainerSettings(accumulate=accumulate)
    with pytest.raises(UsageError, match=words):
        Trainer(points(), vangl(), EndToEnd(1), settings=settings).fit(batches("list", size))  # type: ignore[arg-type]
