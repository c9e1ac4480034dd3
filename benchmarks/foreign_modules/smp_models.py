"""Segmentation models of segmentation-models-pytorch: architectures over encoders."""

from collections.abc import Iterator
from typing import Any

import segmentation_models_pytorch as smp
from torch import nn

from foreign_modules import Case, images

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Unet": {"decoder_channels": (32, 16, 16, 8, 8)},
    "UnetPlusPlus": {"decoder_channels": (32, 16, 16, 8, 8)},
    "MAnet": {"decoder_channels": (32, 16, 16, 8, 8)},
    "Linknet": {},
    "FPN": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    "PSPNet": {"psp_out_channels": 32},
    "PAN": {"decoder_channels": 16},
    "DeepLabV3": {"decoder_channels": 16},
    "DeepLabV3Plus": {"decoder_channels": 16},
    "UPerNet": {"decoder_channels": 16},
    "Segformer": {"decoder_segmentation_channels": 16},
}
ENCODERS = ("resnet18", "mobilenet_v2", "timm-mobilenetv3_small_minimal_100")
MORE: dict[str, list[str]] = {
    "Unet": (
        "efficientnet-b0 mit_b0 densenet121 vgg11 dpn68 mobileone_s0 se_resnet50 "
        "timm-regnetx_002 tu-convnext_atto xception timm-res2net50_26w_4s"
    ).split(),
    "FPN": ["mit_b0", "efficientnet-b0", "tu-convnext_atto"],
    "Segformer": ["mit_b0"],
}
OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Unet scse": ("Unet", "resnet18", {"decoder_attention_type": "scse"}),
    "Unet classes": ("Unet", "resnet18", {"aux_params": {"classes": 4, "dropout": 0.2}}),
    "FPN cat": ("FPN", "resnet18", {"decoder_merge_policy": "cat"}),
}
RESIDUALS = {
    **{f"{kind} resnet18": 8 for kind in ("Unet", "UnetPlusPlus", "DeepLabV3")},
    **{f"{kind} resnet18": 8 for kind in ("DeepLabV3Plus", "Segformer")},
    "PSPNet resnet18": 4,
    "Unet mobilenet_v2": 10,
    "UnetPlusPlus mobilenet_v2": 10,
    "DeepLabV3 mobilenet_v2": 10,
    "DeepLabV3Plus mobilenet_v2": 10,
    "Unet efficientnet-b0": 9,
    "Unet vgg11": 0,
    "Unet densenet121": 0,
    "Unet mit_b0": 16,
    "Segformer mit_b0": 16,
    "Unet se_resnet50": 16,
    "Unet timm-regnetx_002": 13,
    "Unet scse": 8,
    "Unet classes": 8,
}
"""Those of the encoder: decoders concatenate. PSPNet's encoder ends
after the second stage of its ResNet."""


def _build(kind: str, encoder: str, options: dict[str, Any]) -> nn.Module:
    built = getattr(smp, kind)(encoder, encoder_weights=None, classes=3, **options)
    assert isinstance(built, nn.Module)
    return built


def cases() -> Iterator[Case]:
    """All of them."""
    for kind, options in ARCHITECTURES.items():
        for encoder in (*ENCODERS, *MORE.get(kind, ())):
            yield Case(
                f"{kind} {encoder}",
                lambda k=kind, e=encoder, o=options: _build(k, e, o),
                images(64 if kind != "PAN" else 128),
            )
    for name, (kind, encoder, options) in OTHERS.items():
        yield Case(name, lambda k=kind, e=encoder, o=options: _build(k, e, o), images(64))
