"""Programs bind the arguments of a call as the model's forward does."""

import pytest
import torch

from fxtransport import transportify
from fxtransport.errors import UsageError
from tests.networks import Masked

IDS, MASK = torch.tensor([[5, 6, 7], [8, 1, 2]]), torch.tensor([[1, 1, 0], [1, 1, 1]])


def test_arguments_are_bound_as_the_model_binds_them() -> None:
    model = Masked()
    program = transportify(model, {"ids": IDS, "mask": MASK})
    expected = model(IDS, mask=MASK)
    assert torch.equal(program(IDS, None, MASK), expected)
    assert torch.equal(program(mask=MASK, ids=IDS), expected)
    assert torch.equal(program(IDS, mask=MASK, positions=None, scale=1.0), expected)
    assert program.transport(ids=IDS, mask=MASK).energies.shape == (1,)
    with pytest.raises(UsageError, match="positions is given: it was compiled without positions"):
        program(IDS, IDS, MASK)
    with pytest.raises(UsageError, match="scale is given: it was compiled without scale"):
        program(IDS, mask=MASK, scale=2.0)
    with pytest.raises(UsageError, match="ids twice"):
        program(IDS, ids=IDS)


def test_arguments_that_are_none_may_be_left_out() -> None:
    model = Masked()
    program = transportify(model, (IDS, None, None))
    assert torch.equal(program(IDS), model(IDS))
    with pytest.raises(UsageError, match="scale is given"):
        program(IDS, scale=2.0)
