"""What autograd records of parts on a CUDA device, and in which layout tensors are."""

from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from torch import nn

from fxtransport import Program, transportify
from fxtransport.objectives import lap
from fxtransport.training import OptimizerSettings, TrainerSettings
from fxtransport.training.learner import Learner, autocast

pytestmark = pytest.mark.cuda
CUDA = torch.device("cuda")


def loss_of(program: Program, size: int, amp: str | None, **settings: Any) -> list[torch.Tensor]:
    """The loss of each part, as a learner computes it."""
    program, objective = program.cuda().train(), lap(1.0, 0.1, 1).to(CUDA)
    hidden: Any = torch.randn(4, 3, size, size, device=CUDA)
    if settings.get("channels_last"):
        program.to(memory_format=torch.channels_last)
        hidden = hidden.to(memory_format=torch.channels_last)
    targets = torch.tensor([0, 1, 2, 3], device=CUDA)
    losses = []
    for part in program.parts:
        learner = Learner(part, 1, OptimizerSettings(), TrainerSettings(amp=amp, **settings), CUDA)
        left, loss, _ = learner.minimize(objective, hidden, targets, objective.state(0), True)
        losses.append(loss.total)
        hidden = None if left is None else left.detach()
    return losses


def recorded(loss: torch.Tensor) -> Iterator[Any]:
    """The nodes of a graph."""
    found: set[Any] = set()
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [before for before, _ in node.next_functions]
            yield node


def names(losses: list[torch.Tensor]) -> list[set[str]]:
    return [{node.name() for node in recorded(loss)} for loss in losses]


@pytest.fixture(scope="module")
def resnet() -> Program:
    model = timm.create_model("resnet18", num_classes=10)
    return transportify(model, torch.zeros(2, 3, 32, 32), modules=2, verify=False)


@pytest.fixture(scope="module")
def vit() -> Program:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=32, depth=2)
    return transportify(model, torch.zeros(2, 3, 32, 32), modules=2, verify=False)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("amp", [None, "fp16"])
def test_batch_norms_are_cudnn_s(resnet: Program, amp: str | None, channels_last: bool) -> None:
    for found in names(loss_of(resnet, 32, amp, channels_last=channels_last)):
        assert "CudnnBatchNormBackward0" in found
        assert "NativeBatchNormBackward0" not in found


def test_torch_chooses_the_batch_norm_of_bf16(resnet: Program) -> None:
    """The model's own pass and the parts' have the same one: torch's, which may be cuDNN's."""
    images = torch.randn(4, 3, 32, 32, device=CUDA)
    with autocast(CUDA, "bf16"):
        [of_model] = names([resnet.cuda().train()(images).sum()])
    norms = {"CudnnBatchNormBackward0", "NativeBatchNormBackward0"}
    assert len(of_model & norms) == 1
    for found in names(loss_of(resnet, 32, "bf16")):
        assert found & norms == of_model & norms


@pytest.mark.parametrize("amp", [None, "bf16", "fp16"])
def test_attention_is_fused(vit: Program, amp: str | None) -> None:
    fused = {
        f"ScaledDotProduct{name}AttentionBackward0"
        for name in (["Efficient"] if amp is None else ["Flash", "Cudnn"])
    }
    for found in names(loss_of(vit, 32, amp)):
        assert len(fused & found) == 1
        assert "SoftmaxBackward0" not in found


def test_everything_that_is_kept_is_on_the_device(resnet: Program) -> None:
    """Beside it, nothing waits for a copy in the backward pass."""
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss_of(resnet, 32, "bf16")
    assert len(kept) > 50
    assert {tensor.device.type for tensor in kept} == {"cuda"}


def test_maps_stay_in_channels_last(resnet: Program) -> None:
    program = resnet.cuda().train().to(memory_format=torch.channels_last)
    found = []

    def look(_: nn.Module, __: Any, output: torch.Tensor) -> None:
        found.append(output.is_contiguous(memory_format=torch.channels_last))

    layers = [m for m in program.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    handles = [layer.register_forward_hook(look) for layer in layers]
    hidden: Any = torch.randn(4, 3, 32, 32, device=CUDA).to(memory_format=torch.channels_last)
    with autocast(CUDA, "bf16"):
        for part in program.parts:
            hidden = part(hidden).hidden
    for handle in handles:
        handle.remove()
    program.to(memory_format=torch.contiguous_format)
    assert len(found) >= 40
    assert all(found)
