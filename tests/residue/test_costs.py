"""What a measure returned, put together."""

import torch

from fxtransport.residue import costs_of


def test_values_of_one_shape_are_stacked() -> None:
    """Scalars and vectors, and nothing else."""
    assert costs_of([torch.ones(()), torch.zeros(())], ()).tolist() == [1, 0]
    assert costs_of([torch.ones(3), torch.zeros(3)], ()).shape == (3, 2)
    lengths = [torch.ones(3), torch.zeros(2)]
    assert all(a is b for a, b in zip(costs_of(lengths, ()), lengths, strict=True))
    assert isinstance(costs_of([torch.ones(3, 2), torch.zeros(3, 2)], ()), tuple)


def test_without_values_it_is_empty() -> None:
    """On the device of what is given."""
    assert costs_of([], ("text", torch.zeros(2, device="meta"))).device.type == "meta"
    assert costs_of([], ()).shape == (0,)
