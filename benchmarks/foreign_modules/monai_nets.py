"""Networks of MONAI, of two and three dimensions."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from monai.networks import nets
from torch import nn

from foreign_modules import Case, images, tensors

UNET = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": (4, 8, 16)}
UNET |= {"strides": (2, 2)}
CODER = {**UNET, "channels": (4, 8)}
DYN = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "kernel_size": (3, 3, 3)}
DYN |= {"strides": (1, 2, 2), "upsample_kernel_size": (2, 2), "filters": (4, 8, 16)}
RESNET = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 8, 16, 32]}
RESNET |= {"spatial_dims": 2, "n_input_channels": 1, "num_classes": 5}
SWIN = {"in_channels": 1, "out_channels": 2, "feature_size": 12, "depths": (1, 1, 1, 1)}
SWIN |= {"num_heads": (1, 2, 3, 4), "window_size": 4, "spatial_dims": 2}
VIT = {"in_channels": 1, "img_size": (16, 16), "patch_size": (8, 8), "hidden_size": 24}
VIT |= {"mlp_dim": 32, "num_layers": 2, "num_heads": 2, "spatial_dims": 2}
SHAPED = {"in_shape": (1, 16, 16), "channels": (4, 8), "strides": (2, 2)}
FEATURES = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
DIFFUSION = {"spatial_dims": 2, "in_channels": 1, "channels": (8, 16), "num_res_blocks": 1}
DIFFUSION |= {"attention_levels": (False, True), "norm_num_groups": 4, "num_head_channels": 4}
KL = {"spatial_dims": 2, "num_res_blocks": 1, "channels": (8, 16), "norm_num_groups": 4}
KL |= {"attention_levels": (False, True), "latent_channels": 2}
LOCAL = {"spatial_dims": 2, "in_channels": 2, "num_channel_initial": 4}

GRAY = images(16, 1)
LARGE = images(32, 1)
VOLUME = tensors((1, 16, 16, 16))
TIMES = {"timesteps": torch.arange(1, 4)}


def _timed(size: int) -> Callable[[int], dict[str, torch.Tensor]]:
    return lambda batch: {
        "x": torch.randn(batch, 1, size, size),
        "timesteps": torch.arange(1, batch + 1),
    }


def _controlled(batch: int) -> dict[str, torch.Tensor]:
    return {**_timed(16)(batch), "controlnet_cond": torch.randn(batch, 1, 16, 16)}


NETS: dict[str, tuple[str, dict[str, Any], Callable[[int], Any]]] = {
    "AttentionUnet": ("AttentionUnet", UNET, GRAY),
    "UNet": ("UNet", UNET, GRAY),
    "UNet residual": ("UNet", {**UNET, "num_res_units": 2}, GRAY),
    "UNet batch norm": ("UNet", {**UNET, "num_res_units": 1, "norm": "BATCH"}, GRAY),
    "UNet 3d": ("UNet", {**UNET, "spatial_dims": 3, "num_res_units": 2}, VOLUME),
    "AutoEncoder": ("AutoEncoder", {**CODER, "num_res_units": 2}, GRAY),
    "AutoEncoder inner": (
        "AutoEncoder",
        {**CODER, "inter_channels": [8, 8], "num_inter_units": 2},
        GRAY,
    ),
    "VarAutoEncoder": (
        "VarAutoEncoder",
        {k: v for k, v in CODER.items() if k != "in_channels"}
        | {"in_shape": (1, 16, 16), "latent_size": 3},
        GRAY,
    ),
    "BasicUNet": ("BasicUNet", {**FEATURES, "features": (4, 4, 8, 8, 16, 4)}, LARGE),
    "BasicUNetPlusPlus": (
        "BasicUNetPlusPlus",
        {**FEATURES, "features": (4, 4, 8, 8, 16, 4), "deep_supervision": True},
        LARGE,
    ),
    "Classifier": ("Classifier", {**SHAPED, "classes": 3}, GRAY),
    "Discriminator": ("Discriminator", SHAPED, GRAY),
    "Regressor": ("Regressor", {**SHAPED, "out_shape": (2,)}, GRAY),
    "DenseNet": (
        "DenseNet",
        {**FEATURES, "init_features": 8, "growth_rate": 4, "block_config": (2, 2)},
        LARGE,
    ),
    "DynUNet": ("DynUNet", DYN, GRAY),
    "DynUNet residual": ("DynUNet", {**DYN, "res_block": True}, GRAY),
    "DynUNet deep supervision": (
        "DynUNet",
        {**DYN, "deep_supervision": True, "deep_supr_num": 1},
        GRAY,
    ),
    "EfficientNetBN": (
        "EfficientNetBN",
        {"model_name": "efficientnet-b0", "pretrained": False, "spatial_dims": 2}
        | {"in_channels": 1, "num_classes": 3},
        images(64, 1),
    ),
    "FlexibleUNet": (
        "FlexibleUNet",
        {"in_channels": 1, "out_channels": 2, "backbone": "resnet18"}
        | {"decoder_channels": (16, 8, 8, 8, 8)},
        images(64, 1),
    ),
    "FullyConnectedNet": (
        "FullyConnectedNet",
        {"in_channels": 8, "out_channels": 2, "hidden_channels": [8, 8]},
        tensors((8,)),
    ),
    "VarFullyConnectedNet": (
        "VarFullyConnectedNet",
        {"in_channels": 8, "out_channels": 2, "latent_size": 3}
        | {"encode_channels": [8], "decode_channels": [8]},
        tensors((8,)),
    ),
    "Generator": (
        "Generator",
        {"latent_shape": (6,), "start_shape": (4, 4, 4), "channels": (8, 4), "strides": (2, 2)},
        tensors((6,)),
    ),
    "HighResNet": ("HighResNet", {"spatial_dims": 2}, GRAY),
    "Quicknat": (
        "Quicknat",
        {"num_classes": 3, "num_channels": 1, "num_filters": 8, "se_block": "CSE"},
        LARGE,
    ),
    "RegUNet": ("RegUNet", {**LOCAL, "depth": 2}, images(16, 2)),
    "LocalNet": ("LocalNet", {**LOCAL, "extract_levels": (0, 1)}, images(16, 2)),
    "GlobalNet": ("GlobalNet", {**LOCAL, "image_size": [16, 16], "depth": 2}, images(16, 2)),
    "ResNet": ("ResNet", RESNET, LARGE),
    "ResNet bottleneck": ("ResNet", {**RESNET, "block": "bottleneck"}, LARGE),
    "ResNet shortcut A": ("ResNet", {**RESNET, "shortcut_type": "A"}, LARGE),
    "SegResNet": ("SegResNet", {**FEATURES, "blocks_down": (1, 1), "blocks_up": (1,)}, GRAY),
    "SegResNetDS": (
        "SegResNetDS",
        {**FEATURES, "init_filters": 8, "blocks_down": (1, 1), "dsdepth": 1},
        GRAY,
    ),
    "SegResNetVAE": (
        "SegResNetVAE",
        {**FEATURES, "input_image_size": (16, 16), "blocks_down": (1, 1), "blocks_up": (1,)}
        | {"vae_nz": 8},
        GRAY,
    ),
    "SEResNet50": ("SEResNet50", {"spatial_dims": 2, "in_channels": 1, "num_classes": 3}, LARGE),
    "SwinUNETR": ("SwinUNETR", SWIN, images(64, 1)),
    "SwinUNETR v2": ("SwinUNETR", {**SWIN, "use_v2": True}, images(64, 1)),
    "UNETR": (
        "UNETR",
        {"in_channels": 1, "out_channels": 2, "img_size": 32, "feature_size": 4}
        | {"hidden_size": 24, "mlp_dim": 32, "num_heads": 2, "spatial_dims": 2},
        LARGE,
    ),
    "ViT": ("ViT", {**VIT, "classification": True}, GRAY),
    "ViTAutoEnc": ("ViTAutoEnc", {**VIT, "patch_size": (4, 4)}, GRAY),
    "VNet": ("VNet", {"spatial_dims": 2, "dropout_dim": 2}, LARGE),
    "VoxelMorphUNet": (
        "VoxelMorphUNet",
        {"spatial_dims": 2, "in_channels": 2, "unet_out_channels": 4}
        | {"channels": (4, 4, 8, 8), "final_conv_channels": (4,)},
        images(16, 2),
    ),
    "DiffusionModelUNet": (
        "DiffusionModelUNet",
        {**DIFFUSION, "out_channels": 1},
        _timed(16),
    ),
    "ControlNet": (
        "ControlNet",
        {**DIFFUSION, "conditioning_embedding_num_channels": (8,)},
        _controlled,
    ),
    "AutoencoderKL": ("AutoencoderKL", KL, GRAY),
    "PatchDiscriminator": (
        "PatchDiscriminator",
        {"spatial_dims": 2, "channels": 4, "in_channels": 1, "num_layers_d": 2},
        LARGE,
    ),
    "VQVAE": (
        "VQVAE",
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": (8, 8)}
        | {"num_res_layers": 1, "num_res_channels": (8, 8), "num_embeddings": 16}
        | {"downsample_parameters": ((2, 4, 1, 1),) * 2, "embedding_dim": 4}
        | {"upsample_parameters": ((2, 4, 1, 1, 0),) * 2},
        GRAY,
    ),
    "DecoderOnlyTransformer": (
        "DecoderOnlyTransformer",
        {"num_tokens": 20, "max_seq_len": 12, "attn_layers_dim": 16, "attn_layers_depth": 2}
        | {"attn_layers_heads": 2},
        lambda batch: torch.randint(0, 20, (batch, 8)),
    ),
}
"""Classes, options and inputs."""

RESIDUALS = {
    "DynUNet": 0,
    "DynUNet residual": 3,
    "BasicUNet": 0,
    "ResNet": 4,
    "ResNet bottleneck": 4,
    "ResNet shortcut A": 4,
    "ViT": 4,
    "ViTAutoEnc": 4,
    "DecoderOnlyTransformer": 4,
    "HighResNet": 9,
    "SEResNet50": 16,
    "PatchDiscriminator": 0,
}
"""Blocks that add: attention and MLP of each ViT layer; one in each block of the others."""


def _build(kind: str, options: dict[str, Any]) -> nn.Module:
    built = getattr(nets, kind)(**options)
    assert isinstance(built, nn.Module)
    return built


def cases() -> Iterator[Case]:
    """All of them."""
    for name, (kind, options, inputs) in NETS.items():
        yield Case(name, lambda k=kind, o=options: _build(k, o), inputs)


REFUSED = {
    "DynUNet deep supervision": "writes its outputs into a list that it holds",
}
