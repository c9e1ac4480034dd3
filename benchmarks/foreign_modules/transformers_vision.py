"""Vision transformers of transformers, small, with random weights."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from foreign_modules import Case, images
from foreign_modules.transformers_text import build

NET: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
SWIN = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "patch_size": 4}
SWIN |= {"hidden_size": None, "num_hidden_layers": None, "num_attention_heads": None}
SWIN |= {"intermediate_size": None}
STAGED = {"hidden_size": None, "num_hidden_layers": None, "intermediate_size": None}
STAGED |= {"patch_size": None}
VIDEO = {"num_frames": 4, "image_size": 16}
DPT = {"backbone_out_indices": [0, 0, 1, 1], "neck_hidden_sizes": [8, 8, 16, 16]}
DPT |= {"fusion_hidden_size": 8, "is_hybrid": False, "reassemble_factors": [1, 1, 1, 0.5]}


def named(size: int = 32) -> Callable[[int], dict[str, torch.Tensor]]:
    """Images, by name."""
    return lambda batch: {"pixel_values": torch.randn(batch, 3, size, size)}


def labeled(batch: int) -> dict[str, torch.Tensor]:
    """Images with classes, for models that compute their loss."""
    return {**named()(batch), "labels": torch.arange(batch) % 2}


def video(batch: int) -> torch.Tensor:
    """Four frames."""
    return torch.randn(batch, 4, 3, 16, 16)


def masked(batch: int) -> dict[str, torch.Tensor]:
    """Images, and which of their patches are hidden."""
    hidden = torch.zeros(batch, 16, dtype=torch.bool)
    hidden[:, ::3] = True
    return {**named()(batch), "bool_masked_pos": hidden}


MODELS: dict[str, tuple[dict[str, Any], Callable[[int], Any]]] = {
    "ViTModel": ({}, images()),
    "ViTModel named": ({}, named()),
    "ViTModel sdpa": ({"attn_implementation": "sdpa"}, images()),
    "ViTModel eager": ({"attn_implementation": "eager"}, images()),
    "ViTModel states": ({"output_hidden_states": True}, images()),
    "ViTForImageClassification": ({}, named()),
    "ViTForImageClassification loss": ({}, labeled),
    "ViTForMaskedImageModeling": ({"encoder_stride": 8}, masked),
    "DeiTModel": ({}, images()),
    "DeiTForImageClassificationWithTeacher": ({}, named()),
    "BeitModel": ({"use_relative_position_bias": True}, images()),
    "BeitForImageClassification": ({"layer_scale_init_value": 0.1}, named()),
    "Data2VecVisionModel": ({"use_shared_relative_position_bias": True}, images()),
    "Dinov2Model": ({}, images()),
    "Dinov2ForImageClassification": ({"use_swiglu_ffn": True}, named()),
    "Dinov2WithRegistersModel": ({}, images()),
    "DINOv3ViTModel": ({}, images()),
    "ViTMAEModel": ({}, named()),
    "ViTMSNModel": ({}, images()),
    "ViTMSNForImageClassification": ({}, named()),
    "IJepaModel": ({}, images()),
    "YolosModel": ({"image_size": [32, 32], "num_detection_tokens": 4}, images()),
    "YolosForObjectDetection": ({"image_size": [32, 32], "num_detection_tokens": 4}, named()),
    "DPTModel": (DPT, images()),
    "DPTForDepthEstimation": (
        {**DPT, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3]},
        named(),
    ),
    "CLIPVisionModel": ({}, images()),
    "CLIPVisionModelWithProjection": ({"projection_dim": 16}, named()),
    "SiglipVisionModel": ({}, images()),
    "Siglip2VisionModel": (
        {"num_patches": 16, "image_size": None},
        lambda batch: {
            "pixel_values": torch.randn(batch, 16, 192),
            "pixel_attention_mask": torch.ones(batch, 16, dtype=torch.long),
            "spatial_shapes": torch.full((batch, 2), 4),
        },
    ),
    "Blip2VisionModel": ({"qkv_bias": True}, images()),
    "InternVLVisionModel": ({"image_size": [32, 32], "patch_size": [8, 8]}, images()),
    "Aimv2VisionModel": ({}, images()),
    "PixioModel": ({}, images()),
    "VitDetModel": ({"window_block_indices": [0], "window_size": 2}, images()),
    "HieraModel": (
        {"embed_dim": 8, "image_size": [32, 32], "patch_size": [7, 7], "patch_stride": [4, 4]}
        | {"patch_padding": [3, 3], "depths": [1, 1], "num_heads": [1, 2], "query_stride": [2, 2]}
        | {"masked_unit_size": [4, 4], "masked_unit_attention": [True, False], "num_query_pool": 1}
        | STAGED,
        images(),
    ),
    "SwinModel": (SWIN, images()),
    "SwinForImageClassification": (SWIN, named()),
    "Swinv2Model": (SWIN, images()),
    "Swin2SRModel": ({**SWIN, "patch_size": 1, "window_size": 8, "image_size": 16}, images(16)),
    "MaskFormerSwinModel": (SWIN, images()),
    "DonutSwinModel": (SWIN, images()),
    "SegformerModel": (
        {**STAGED, "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]}
        | {"num_attention_heads": [1, 1, 2, 2], "sr_ratios": [4, 2, 1, 1]},
        images(64),
    ),
    "SegformerForSemanticSegmentation": (
        {**STAGED, "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]}
        | {"num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16},
        named(64),
    ),
    "GLPNModel": (
        {**STAGED, "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]}
        | {"num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16},
        images(64),
    ),
    "PvtModel": (
        {**STAGED, "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "image_size": 64}
        | {"num_attention_heads": [1, 1, 2, 2]},
        images(64),
    ),
    "PvtV2Model": (
        {**STAGED, "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "image_size": 64}
        | {"num_attention_heads": [1, 1, 2, 2]},
        images(64),
    ),
    "VideoMAEModel": (VIDEO, video),
    "VideoMAEForVideoClassification": (VIDEO, lambda batch: {"pixel_values": video(batch)}),
    "TimesformerModel": (VIDEO, video),
    "TimesformerModel joint": ({**VIDEO, "attention_type": "joint_space_time"}, video),
    "VivitModel": ({**VIDEO, "tubelet_size": [2, 8, 8]}, video),
    "SamVisionModel": (
        {"output_channels": 8, "global_attn_indexes": [1], "window_size": 2, "mlp_dim": 48},
        images(),
    ),
    "OwlViTVisionModel": ({}, images()),
}
"""Options of the configuration, and inputs."""

TWO_LAYERS = """
    ViTModel ViTForImageClassification ViTForMaskedImageModeling DeiTModel
    DeiTForImageClassificationWithTeacher BeitModel BeitForImageClassification
    Data2VecVisionModel Dinov2Model Dinov2ForImageClassification Dinov2WithRegistersModel
    DINOv3ViTModel ViTMAEModel ViTMSNModel ViTMSNForImageClassification IJepaModel YolosModel
    YolosForObjectDetection DPTModel CLIPVisionModel CLIPVisionModelWithProjection
    Blip2VisionModel InternVLVisionModel VideoMAEModel VideoMAEForVideoClassification VivitModel
    SwinModel SwinForImageClassification Swinv2Model MaskFormerSwinModel DonutSwinModel
    OwlViTVisionModel SamVisionModel VitDetModel
""".split()


RESIDUALS = {name: 4 for name in MODELS if name.partition(" ")[0] in TWO_LAYERS}
"""Attention and MLP of two layers; in Swin of one layer in each of two stages."""
RESIDUALS |= {"TimesformerModel joint": 4, "SegformerModel": 8, "PvtModel": 8, "PvtV2Model": 8}
RESIDUALS |= {"GLPNModel": 8, "SegformerForSemanticSegmentation": 8, "SiglipVisionModel": 5}

_SIZES = "resizes positions for each image to the numbers in spatial_shapes"
REFUSED = {"Siglip2VisionModel": _SIZES}


def cases() -> Iterator[Case]:
    """All of them."""
    for name, (options, inputs) in MODELS.items():
        yield Case(name, lambda n=name, o=options: build(n, o, **NET), inputs)


REFUSED |= {
    "DPTForDepthEstimation": "its first forward registers hooks on submodules",
    "SegformerForSemanticSegmentation": "its first forward registers hooks on submodules",
    "ViTModel states": "its first forward registers hooks on submodules",
    "ViTForImageClassification loss": "its first forward writes config.problem_type",
}
