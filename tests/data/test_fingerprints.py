"""Samples are known again by their content, in this process and in others."""

from dataclasses import replace

import pytest
import torch

from fxtransport.data import OrderedStream, Samples, ShuffledStream, TensorSamples
from fxtransport.data.fingerprints import combined, fingerprint, named, tensors_hash
from fxtransport.data.streams import Subset

SAMPLES = TensorSamples(torch.arange(8.0).view(4, 2), torch.tensor([0, 1, 1, 0]))


@pytest.mark.parametrize(
    "other",
    [
        TensorSamples(
            SAMPLES.inputs.clone().index_put((torch.tensor(3),), torch.tensor(0.0)), SAMPLES.targets
        ),
        TensorSamples(SAMPLES.inputs, torch.tensor([0, 1, 1, 1])),
        TensorSamples(SAMPLES.inputs.double(), SAMPLES.targets),
        TensorSamples(SAMPLES.inputs.view(4, 1, 2), SAMPLES.targets),
        TensorSamples(SAMPLES.inputs.flip(0), SAMPLES.targets.flip(0)),
        Subset(SAMPLES, (0, 1, 2)),
    ],
)
def test_other_samples_have_another_fingerprint(other: Samples) -> None:
    same = TensorSamples(SAMPLES.inputs.clone(), SAMPLES.targets.clone())
    assert fingerprint(SAMPLES) == fingerprint(same) != fingerprint(other)


def test_what_does_not_tell_has_none() -> None:
    assert fingerprint([1, 2]) is None
    assert combined("a", None) is None
    assert combined("a", 1) == combined("a", "1") != combined("a1")


def test_a_stream_says_what_its_batches_depend_on() -> None:
    stream = ShuffledStream(SAMPLES, 2, seed=3)
    described = stream.description()
    assert described["content"] == tensors_hash((SAMPLES.inputs, SAMPLES.targets))
    for change in ({"batch_size": 4}, {"seed": 4}, {"drop_last": True}):
        other = replace(stream, **change).description()
        assert [key for key in other if other[key] != described[key]] == list(change)
    # the number of workers changes nothing
    assert replace(stream, num_workers=2).description() == described
    assert OrderedStream(SAMPLES, 2).description() == OrderedStream(SAMPLES, 4).description()


class Mixing:
    """Mixes, with an address in its text."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha


def test_addresses_are_left_out_of_names() -> None:
    assert named(Mixing(0.1)) == named(Mixing(0.1)) != named(Mixing(0.2))
    assert " at 0x" not in named(Mixing(0.1))
    assert named(3) == "3"
