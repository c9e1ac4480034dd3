"""Training and eval mode of parts, each its own, with the overrides of ``train`` of the model."""

import copy

import pytest
import torch
from torch import nn

from fxtransport import transportify
from tests.compiling import cut, hidden_before
from tests.networks import IMAGES, OverwritingBlock, OverwritingNet


class Frozen(nn.Sequential):
    """Keeps its batch norms in eval mode."""

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.training = False
        return self


class FrozenStem(OverwritingNet):
    """Keeps a submodule that it names in eval mode, and one deeper down."""

    def train(self, mode: bool = True) -> "FrozenStem":
        super().train(mode)
        self.stem.eval()
        self.blocks[0].norm.eval()
        return self


def _flags(module: nn.Module) -> list[bool]:
    return [m.training for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def _tail() -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]


@pytest.mark.parametrize("of_root", [True, False])
def test_train_means_what_it_means_on_the_model(of_root: bool) -> None:
    """An override of the root, or of a submodule that is cut in two, holds in parts."""
    blocks = [OverwritingBlock(4), OverwritingBlock(4)]
    net = Frozen(*blocks, *_tail()) if of_root else nn.Sequential(Frozen(*blocks), *_tail())
    program = transportify(net, torch.zeros(2, 4, 6, 6), modules=2, head="none")
    for part in (program, *program.parts, program.whole, *map(copy.deepcopy, program.parts)):
        assert part.train().training
        assert _flags(part)
        assert not any(_flags(part))
        assert not part.eval().training


def test_train_overrides_may_name_what_is_elsewhere(
    net: OverwritingNet, images: torch.Tensor
) -> None:
    """In a copy of the last part there is neither the stem nor the first block."""
    frozen = FrozenStem()
    program = cut(frozen)
    twin = copy.deepcopy(program.parts[-1]).train()
    assert all(_flags(twin))
    program.train()
    assert not frozen.stem.training
    assert _flags(program.parts[0])[0] is False
    assert all(_flags(program.parts[-1]))


def test_modes_of_parts_are_their_own(net: OverwritingNet, images: torch.Tensor) -> None:
    """A part in eval mode leaves the others, also where they hold one module together."""
    program = cut(net).train()
    program.parts[0].eval()
    assert not any(_flags(program.parts[0]))
    assert all(_flags(program.parts[1]))
    assert program.parts[1].training
    assert program.blocks.training
    hidden = hidden_before(program, 2, images)
    program.parts[2].eval()
    # dropout in the forward of the root
    assert torch.equal(program.parts[2](hidden).hidden, program.parts[2](hidden).hidden)
    program.train()
    assert all(_flags(program.parts[0]))
    assert not torch.equal(program.parts[2](hidden).hidden, program.parts[2](hidden).hidden)


def test_modes_and_gradients_of_submodules(net: OverwritingNet, images: torch.Tensor) -> None:
    """``eval`` and ``requires_grad_`` on a submodule or a part act as on the model."""
    program = transportify(net, IMAGES, modules=2).train()
    program.parts[0].eval().requires_grad_(False)
    assert not net.blocks[0].norm.training
    assert net.blocks[3].norm.training
    assert not net.stem.weight.requires_grad
    before = net.blocks[0].norm.running_mean.clone()
    program(images).sum().backward()
    assert torch.equal(net.blocks[0].norm.running_mean, before)
    assert net.stem.weight.grad is None
    assert net.head.weight.grad is not None
    program.eval()
    program.get_submodule("blocks").train()
    assert not torch.equal(program(images), program.eval()(images))
