"""The modes of a program, its model and its parts are as they were."""

import pytest
import torch
from torch import nn

from fxtransport import transportify
from fxtransport.modes import eval_mode
from tests.networks import Net


@pytest.mark.parametrize("mode", [True, False])
def test_modes_are_restored(mode: bool) -> None:
    """Those of single modules and of parts, too, also where an error is raised."""
    model = Net(dropout=0.1)
    program = transportify(model, torch.zeros(2, 3, 8, 8), modules=2)
    program.train(mode)
    program.parts[1].train(not mode)
    model.blocks[0].train(not mode)

    def modes() -> list[bool]:
        held = (*program.parts, program.whole, program, model)
        return [module.training for part in held for module in nn.Module.modules(part)]

    before = modes()
    assert len(set(before)) == 2
    with pytest.raises(KeyError), eval_mode(program):
        assert not any(modes())
        raise KeyError
    assert modes() == before
