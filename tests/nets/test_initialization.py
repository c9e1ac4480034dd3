"""Initialization draws what the papers draw, and leaves the rest."""

import math

import pytest
import timm
import torch
from torch import nn

from fxtransport.errors import UsageError
from fxtransport.nets import initialize, resnet_m


def rows(weight: torch.Tensor) -> torch.Tensor:
    """The filters of a layer, or its inputs where there are fewer of them."""
    flat = weight.detach().flatten(1)
    return flat if flat.shape[0] <= flat.shape[1] else flat.T


@pytest.mark.parametrize("gain", [0.01, 0.1, 1.0])
def test_orthogonal_filters_have_the_gain_for_norm(gain: float) -> None:
    model = initialize(resnet_m(2, image_size=8, init=None), "orthogonal", gain)
    weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == 8
    for module in weighted:
        filters = rows(module.weight)
        torch.testing.assert_close(
            filters @ filters.T, gain**2 * torch.eye(len(filters)), atol=1e-6, rtol=1e-4
        )


def test_resnet_m_is_orthogonal_by_default() -> None:
    conv = next(m for m in resnet_m(image_size=8).blocks.modules() if isinstance(m, nn.Conv2d))
    torch.testing.assert_close(rows(conv.weight).norm(dim=1), torch.full((32,), 0.01))


@pytest.mark.parametrize(
    ("method", "std"), [("kaiming", 0.5 * math.sqrt(2 / (64 * 9))), ("normal", 0.5)]
)
def test_normal_weights_have_their_deviation(method: str, std: float) -> None:
    conv = initialize(nn.Conv2d(64, 64, 3), method, 0.5)  # type: ignore[arg-type]
    assert conv.weight.mean().abs() < std / 20
    assert conv.weight.std().item() == pytest.approx(std, rel=0.02)
    assert conv.bias is not None
    assert not conv.bias.any()


def test_the_rest_of_a_timm_model_stays() -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=3)
    before = {name: p.clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        model.norm.weight.fill_(7)
    torch.manual_seed(1)
    assert initialize(model, "orthogonal", 0.1) is model
    assert torch.equal(model.pos_embed, before["pos_embed"])
    assert torch.equal(model.cls_token, before["cls_token"])
    assert torch.equal(model.norm.weight, torch.ones_like(model.norm.weight))
    assert not torch.equal(model.blocks[0].attn.qkv.weight, before["blocks.0.attn.qkv.weight"])


def test_what_is_not_trained_stays() -> None:
    frozen = nn.Linear(3, 3).requires_grad_(False)
    before = frozen.weight.clone()
    initialize(nn.Sequential(frozen, nn.Linear(3, 3)), "normal")
    assert torch.equal(frozen.weight, before)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(UsageError, match=r"orthogonal, kaiming, normal, not 'xavier'"):
        initialize(nn.Linear(2, 2), "xavier")  # type: ignore[arg-type]
