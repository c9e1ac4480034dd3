"""Convolutional and mixed vision models of transformers, small, with random weights."""

from collections.abc import Callable, Iterator
from typing import Any

from foreign_modules import Case, images
from foreign_modules.transformers_text import build
from foreign_modules.transformers_vision import named

RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2]}
CONVNEXT = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}

MODELS: dict[str, tuple[dict[str, Any], Callable[[int], Any]]] = {
    "ResNetModel": (RESNET, images()),
    "ResNetModel basic": ({**RESNET, "layer_type": "basic"}, images()),
    "ResNetForImageClassification": (RESNET, named()),
    "RegNetModel": ({**RESNET, "groups_width": 4}, images()),
    "RegNetForImageClassification": ({**RESNET, "groups_width": 4, "layer_type": "x"}, named()),
    "BitModel": ({**RESNET, "num_groups": 4}, images()),
    "ConvNextModel": (CONVNEXT, images()),
    "ConvNextForImageClassification": (CONVNEXT, named()),
    "ConvNextV2Model": (CONVNEXT, images()),
    "DINOv3ConvNextModel": ({"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}, images()),
    "MobileNetV1Model": ({"depth_multiplier": 0.25, "min_depth": 4}, images(64)),
    "MobileNetV2Model": ({"depth_multiplier": 0.25, "min_depth": 4}, images(64)),
    "MobileNetV2ForImageClassification": ({"depth_multiplier": 0.25}, named(64)),
    "EfficientNetModel": (
        {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320},
        images(64),
    ),
    "EfficientNetForImageClassification": (
        {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320},
        named(64),
    ),
    "PoolFormerModel": (
        {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "num_encoder_blocks": 4},
        images(64),
    ),
    "PoolFormerForImageClassification": (
        {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "num_encoder_blocks": 4},
        named(64),
    ),
    "FocalNetModel": (
        {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1]}
        | {"hidden_sizes": [8, 16], "focal_levels": [2, 2], "focal_windows": [3, 3]},
        images(),
    ),
    "SwiftFormerModel": (
        {"image_size": 64, "depths": [1, 1, 1, 1], "embed_dims": [8, 8, 16, 16]},
        images(64),
    ),
    "MobileViTModel": (
        {"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": 2}
        | {"neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 64]},
        images(64),
    ),
    "MobileViTForImageClassification": (
        {"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": 2}
        | {"neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 64]},
        named(64),
    ),
    "MobileViTV2Model": ({"image_size": 64, "width_multiplier": 0.25}, images(64)),
    "LevitModel": (
        {"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [1, 2, 2]}
        | {"depths": [1, 1, 1], "key_dim": [8, 8, 8], "attention_ratio": [2, 2, 2]},
        images(64),
    ),
    "LevitForImageClassificationWithTeacher": (
        {"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [1, 2, 2]}
        | {"depths": [1, 1, 1], "key_dim": [8, 8, 8], "attention_ratio": [2, 2, 2]},
        named(64),
    ),
    "CvtModel": (
        {"embed_dim": [8, 16, 24], "num_heads": [1, 2, 2], "depth": [1, 2, 3]},
        images(64),
    ),
    "CvtForImageClassification": (
        {"embed_dim": [8, 16, 24], "num_heads": [1, 2, 2], "depth": [1, 2, 3]},
        named(64),
    ),
    "HGNetV2ForImageClassification": (
        {"embedding_size": 8, "hidden_sizes": [16, 16, 24, 32], "depths": [1, 1, 1, 1]}
        | {"stem_channels": [3, 8, 8], "stage_in_channels": [8, 16, 16, 24]}
        | {"stage_mid_channels": [8, 8, 8, 8], "stage_out_channels": [16, 16, 24, 32]}
        | {"stage_num_blocks": [1, 1, 2, 1]},
        named(64),
    ),
    "TextNetModel": (
        {"conv_layer_kernel_sizes": [[[3, 3]], [[3, 3]], [[3, 1]], [[3, 3]]]}
        | {"conv_layer_strides": [[2], [2], [2], [2]], "hidden_sizes": [8, 8, 8, 8, 8]}
        | {"stem_out_channels": 8},
        images(64),
    ),
}
"""Options of the configuration, and inputs."""

RESIDUALS = {
    "ResNetModel": 3,
    "ResNetModel basic": 3,
    "ResNetForImageClassification": 3,
    "RegNetModel": 3,
    "RegNetForImageClassification": 3,
    "BitModel": 3,
    "ConvNextModel": 2,
    "ConvNextForImageClassification": 2,
    "ConvNextV2Model": 2,
    "DINOv3ConvNextModel": 4,
    "MobileNetV1Model": 0,
    "MobileNetV2Model": 10,
    "MobileNetV2ForImageClassification": 10,
    "PoolFormerModel": 8,
    "PoolFormerForImageClassification": 8,
    "FocalNetModel": 4,
    "CvtModel": 12,
    "CvtForImageClassification": 12,
}
"""One in each unit, block and layer; two, for the mixer and the MLP, in blocks of PoolFormer, of
FocalNet and of CvT."""


def cases() -> Iterator[Case]:
    """All of them."""
    for name, (options, inputs) in MODELS.items():
        yield Case(name, lambda n=name, o=options: build(n, o), inputs)
