"""Networks and blocks of diffusers, small, with random weights."""

from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import torch
from diffusers.models import attention, downsampling, resnet, upsampling
from diffusers.models.transformers import transformer_2d
from torch import nn

from foreign_modules import Case, images, tensors

UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
ATTENTION = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D")}
ATTENTION |= {"up_block_types": ("AttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 4}
CONDITION = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
CONDITION |= {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
CONDITION |= {"cross_attention_dim": 12, "attention_head_dim": 2}
KL = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 2}
KL |= {"down_block_types": ("DownEncoderBlock2D",) * 2}
KL |= {"up_block_types": ("UpDecoderBlock2D",) * 2}
DIT = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "in_channels": 4}
DIT |= {"sample_size": 8, "patch_size": 2}


def timed(channels: int = 3, size: int = 16) -> Callable[[int], dict[str, torch.Tensor]]:
    """Noisy images and times."""
    return lambda batch: {
        "sample": torch.randn(batch, channels, size, size),
        "timestep": torch.arange(1, batch + 1),
    }


def conditioned(channels: int = 4, size: int = 16) -> Callable[[int], dict[str, torch.Tensor]]:
    """Noisy images, times, and what they are to show."""
    return lambda batch: {
        **timed(channels, size)(batch),
        "encoder_hidden_states": torch.randn(batch, 5, 12),
    }


def _controlled(batch: int) -> dict[str, torch.Tensor]:
    return {**conditioned()(batch), "controlnet_cond": torch.randn(batch, 3, 128, 128)}


def _dit(batch: int) -> dict[str, torch.Tensor]:
    return {
        "hidden_states": torch.randn(batch, 4, 8, 8),
        "timestep": torch.arange(1, batch + 1),
        "class_labels": torch.arange(batch),
    }


def _tokens(batch: int) -> dict[str, torch.Tensor]:
    return {
        "hidden_states": torch.randn(batch, 4, 8, 8),
        "timestep": torch.arange(1, batch + 1),
        "encoder_hidden_states": torch.randn(batch, 5, 12),
    }


def _joint(batch: int) -> dict[str, torch.Tensor]:
    return {**_tokens(batch), "pooled_projections": torch.randn(batch, 12)}


def _flux(batch: int) -> dict[str, torch.Tensor]:
    return {
        "hidden_states": torch.randn(batch, 16, 4),
        "encoder_hidden_states": torch.randn(batch, 5, 12),
        "pooled_projections": torch.randn(batch, 12),
        "timestep": torch.rand(batch),
        "img_ids": torch.zeros(16, 3),
        "txt_ids": torch.zeros(5, 3),
    }


MODELS: dict[str, tuple[str, dict[str, Any], Callable[[int], Any]]] = {
    "UNet2DModel": ("UNet2DModel", {**UNET, **ATTENTION}, timed()),
    "UNet2DModel scale shift": (
        "UNet2DModel",
        {**UNET, **ATTENTION, "resnet_time_scale_shift": "scale_shift"},
        timed(),
    ),
    "UNet2DModel resnet": (
        "UNet2DModel",
        {**UNET, **ATTENTION, "downsample_type": "resnet", "upsample_type": "resnet"},
        timed(),
    ),
    "UNet2DConditionModel": ("UNet2DConditionModel", {**UNET, **CONDITION}, conditioned()),
    "UNet2DConditionModel linear": (
        "UNet2DConditionModel",
        {**UNET, **CONDITION, "use_linear_projection": True, "dropout": 0.1},
        conditioned(),
    ),
    "ControlNetModel": (
        "ControlNetModel",
        {"in_channels": 4, "conditioning_embedding_out_channels": (8, 8, 8, 8)}
        | {k: v for k, v in UNET.items() if k != "sample_size"}
        | {k: v for k, v in CONDITION.items() if k != "up_block_types"},
        _controlled,
    ),
    "AutoencoderKL": ("AutoencoderKL", {**KL, "layers_per_block": 1}, images(16)),
    "AutoencoderKL no attention": (
        "AutoencoderKL",
        {**KL, "layers_per_block": 1, "mid_block_add_attention": False},
        images(16),
    ),
    "AutoencoderTiny": (
        "AutoencoderTiny",
        {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
        | {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)},
        images(16),
    ),
    "AutoencoderDC": (
        "AutoencoderDC",
        {"latent_channels": 4, "attention_head_dim": 4, "encoder_block_out_channels": (8, 8)}
        | {"decoder_block_out_channels": (8, 8), "encoder_layers_per_block": (1, 1)}
        | {"decoder_layers_per_block": (1, 1), "encoder_qkv_multiscales": ((), (5,))}
        | {"encoder_block_types": ("ResBlock", "EfficientViTBlock")}
        | {"decoder_block_types": ("ResBlock", "EfficientViTBlock")}
        | {"decoder_qkv_multiscales": ((), (5,)), "downsample_block_type": "Conv"}
        | {"decoder_norm_types": "rms_norm", "decoder_act_fns": "silu"},
        images(16),
    ),
    "AsymmetricAutoencoderKL": (
        "AsymmetricAutoencoderKL",
        {"down_block_types": ("DownEncoderBlock2D",), "down_block_out_channels": (8,)}
        | {"up_block_types": ("UpDecoderBlock2D",), "up_block_out_channels": (8,)}
        | {"norm_num_groups": 4, "latent_channels": 2},
        images(16),
    ),
    "VQModel": (
        "VQModel",
        {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 2}
        | {"down_block_types": ("DownEncoderBlock2D",) * 2, "num_vq_embeddings": 8}
        | {"up_block_types": ("UpDecoderBlock2D",) * 2},
        images(16),
    ),
    "DiTTransformer2DModel": (
        "DiTTransformer2DModel",
        {**DIT, "num_embeds_ada_norm": 10, "norm_type": "ada_norm_zero", "out_channels": 4},
        _dit,
    ),
    "PixArtTransformer2DModel": (
        "PixArtTransformer2DModel",
        {**DIT, "cross_attention_dim": 16, "caption_channels": 12, "out_channels": 4}
        | {"use_additional_conditions": False},
        _tokens,
    ),
    "SD3Transformer2DModel": (
        "SD3Transformer2DModel",
        {**DIT, "caption_projection_dim": 16, "joint_attention_dim": 12}
        | {"pooled_projection_dim": 12, "out_channels": 4, "pos_embed_max_size": 8},
        _joint,
    ),
    "FluxTransformer2DModel": (
        "FluxTransformer2DModel",
        {"patch_size": 1, "in_channels": 4, "num_layers": 1, "num_single_layers": 1}
        | {"attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": 12}
        | {"pooled_projection_dim": 12, "axes_dims_rope": (4, 2, 2)},
        _flux,
    ),
    "SanaTransformer2DModel": (
        "SanaTransformer2DModel",
        {"patch_size": 1, "in_channels": 4, "out_channels": 4, "num_layers": 1}
        | {"num_attention_heads": 2, "attention_head_dim": 8, "num_cross_attention_heads": 2}
        | {"cross_attention_head_dim": 8, "cross_attention_dim": 16, "caption_channels": 12}
        | {"sample_size": 8},
        _tokens,
    ),
    "AuraFlowTransformer2DModel": (
        "AuraFlowTransformer2DModel",
        {"sample_size": 8, "patch_size": 2, "in_channels": 4, "num_mmdit_layers": 1}
        | {"num_single_dit_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}
        | {"caption_projection_dim": 16, "joint_attention_dim": 12, "out_channels": 4}
        | {"pos_embed_max_size": 16},
        _tokens,
    ),
    "PriorTransformer": (
        "PriorTransformer",
        {"num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 2}
        | {"embedding_dim": 8, "num_embeddings": 5, "additional_embeddings": 4},
        lambda batch: {
            "hidden_states": torch.randn(batch, 8),
            "timestep": torch.arange(batch),
            "proj_embedding": torch.randn(batch, 8),
            "encoder_hidden_states": torch.randn(batch, 5, 8),
        },
    ),
    "UVit2DModel": (
        "UVit2DModel",
        {"hidden_size": 16, "cond_embed_dim": 8, "micro_cond_encode_dim": 2}
        | {"micro_cond_embed_dim": 10, "encoder_hidden_size": 12, "vocab_size": 20}
        | {"codebook_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        | {"block_out_channels": 8, "intermediate_size": 32, "in_channels": 8}
        | {"block_num_heads": 2, "num_res_blocks": 1, "sample_size": 8},
        lambda batch: {
            "input_ids": torch.randint(0, 16, (batch, 8, 8)),
            "encoder_hidden_states": torch.randn(batch, 5, 12),
            "pooled_text_emb": torch.randn(batch, 8),
            "micro_conds": torch.randn(batch, 5),
        },
    ),
}
"""Classes, options of their configurations and inputs."""

EMBEDDED = tensors((8, 8, 8), (12,))
BLOCKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]] = {
    "BasicTransformerBlock": (
        lambda: attention.BasicTransformerBlock(16, 2, 8, activation_fn="geglu"),
        tensors((6, 16)),
    ),
    "BasicTransformerBlock cross": (
        lambda: attention.BasicTransformerBlock(16, 2, 8, cross_attention_dim=12),
        lambda batch: {
            "hidden_states": torch.randn(batch, 6, 16),
            "encoder_hidden_states": torch.randn(batch, 5, 12),
        },
    ),
    "FeedForward": (lambda: attention.FeedForward(16), tensors((6, 16))),
    "ResnetBlock2D": (
        lambda: resnet.ResnetBlock2D(in_channels=8, temb_channels=12, groups=4),
        EMBEDDED,
    ),
    "ResnetBlock2D projection": (
        lambda: resnet.ResnetBlock2D(
            in_channels=8, out_channels=16, temb_channels=12, groups=4, groups_out=4
        ),
        EMBEDDED,
    ),
    "Downsample2D": (lambda: downsampling.Downsample2D(8, use_conv=True), images(8, 8)),
    "Upsample2D": (lambda: upsampling.Upsample2D(8, use_conv=True), images(8, 8)),
    "Transformer2DModel": (
        lambda: transformer_2d.Transformer2DModel(
            2, 8, in_channels=16, norm_num_groups=4, cross_attention_dim=12
        ),
        lambda batch: {
            "hidden_states": torch.randn(batch, 16, 4, 4),
            "encoder_hidden_states": torch.randn(batch, 5, 12),
        },
    ),
}

RESIDUALS = {
    "DiTTransformer2DModel": 4,
    "PixArtTransformer2DModel": 6,
    "BasicTransformerBlock": 2,
    "BasicTransformerBlock cross": 3,
    "FeedForward": 0,
    "ResnetBlock2D": 1,
    "ResnetBlock2D projection": 1,
    "AutoencoderKL": 12,
    "AutoencoderKL no attention": 10,
    "PriorTransformer": 4,
    "Downsample2D": 0,
    "Upsample2D": 0,
}
"""Attention, cross-attention and MLP of each transformer layer; one in each residual block. The
autoencoder has 2 in the levels of its encoder and 4 in those of its decoder, which have a block
more, and in the middle of each two blocks and an attention."""


def _build(kind: str, options: dict[str, Any]) -> nn.Module:
    built = getattr(diffusers, kind)(**options)
    assert isinstance(built, nn.Module)
    return built


def cases() -> Iterator[Case]:
    """All of them."""
    for name, (kind, options, inputs) in MODELS.items():
        yield Case(name, lambda k=kind, o=options: _build(k, o), inputs)
    for name, (build, inputs) in BLOCKS.items():
        yield Case(name, build, inputs)
