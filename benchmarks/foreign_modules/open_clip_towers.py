"""Vision and text towers of open_clip, and the two together."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import nn

from foreign_modules import Case, images

VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "heads": 2}
VISION |= {"mlp_ratio": 2.0, "output_dim": 16}
TEXT = {"context_length": 12, "vocab_size": 99, "width": 32, "heads": 2, "layers": 2}
TEXT |= {"mlp_ratio": 2.0, "output_dim": 16}


def _ids(batch: int) -> torch.Tensor:
    return torch.randint(4, 99, (batch, 12))


def _both(batch: int) -> dict[str, torch.Tensor]:
    return {"image": torch.randn(batch, 3, 32, 32), "text": _ids(batch)}


def _clip(kind: Callable[..., nn.Module] = CLIP, **options: Any) -> nn.Module:
    vision = CLIPVisionCfg(layers=2, width=32, head_width=16, patch_size=8, image_size=32)
    text = CLIPTextCfg(context_length=12, vocab_size=99, width=32, heads=2, layers=2)
    return kind(embed_dim=16, vision_cfg=vision, text_cfg=text, **options)


TOWERS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]] = {
    "VisionTransformer": (lambda: VisionTransformer(**VISION), images(32)),
    "VisionTransformer avg pool": (
        lambda: VisionTransformer(**VISION, pool_type="avg", final_ln_after_pool=True),
        images(32),
    ),
    "VisionTransformer sin cos": (
        lambda: VisionTransformer(**VISION, pos_embed_type="sin_cos_2d"),
        images(32),
    ),
    "VisionTransformer attention pool": (
        lambda: VisionTransformer(**VISION, attentional_pool=True, attn_pooler_heads=2),
        images(32),
    ),
    "VisionTransformer tokens": (
        lambda: VisionTransformer(**VISION, output_tokens=True),
        images(32),
    ),
    "VisionTransformer layer scale": (
        lambda: VisionTransformer(**VISION, ls_init_value=0.1),
        images(32),
    ),
    "VisionTransformer patch dropout": (
        lambda: VisionTransformer(**VISION, patch_dropout=0.5),
        images(32),
    ),
    "ModifiedResNet": (
        lambda: ModifiedResNet([1, 1, 1, 1], 16, 4, image_size=64, width=8),
        images(64),
    ),
    "TextTransformer": (lambda: TextTransformer(**TEXT), _ids),
    "TextTransformer cls": (
        lambda: TextTransformer(**{**TEXT, "context_length": 13}, embed_cls=True),
        _ids,
    ),
    "TextTransformer no mask": (
        lambda: TextTransformer(**TEXT, no_causal_mask=True, pool_type="last"),
        _ids,
    ),
    "CLIP": (_clip, _both),
    "CLIP dict": (lambda: _clip(output_dict=True), _both),
    "CLIP quick gelu": (lambda: _clip(quick_gelu=True), _both),
    "CustomTextCLIP": (lambda: _clip(CustomTextCLIP), _both),
}

RESIDUALS = {
    "VisionTransformer": 4,
    "VisionTransformer avg pool": 4,
    "VisionTransformer sin cos": 4,
    "VisionTransformer tokens": 4,
    "VisionTransformer layer scale": 4,
    "VisionTransformer patch dropout": 4,
    "VisionTransformer attention pool": 4,
    "ModifiedResNet": 4,
    "TextTransformer": 4,
    "TextTransformer cls": 4,
    "TextTransformer no mask": 4,
    "CLIP": 8,
    "CLIP dict": 8,
    "CLIP quick gelu": 8,
    "CustomTextCLIP": 8,
}
"""Attention and MLP of each layer of each tower."""


def cases() -> Iterator[Case]:
    """All of them."""
    for name, (build, inputs) in TOWERS.items():
        yield Case(name, build, inputs)
