"""Vision transformers of vit-pytorch."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from foreign_modules import Case, images

NET = {"num_classes": 7, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 48}
VIT = {"image_size": 32, "patch_size": 8, **NET}
VIDEO = {"image_size": 16, "image_patch_size": 8, "frames": 4, "frame_patch_size": 2, **NET}
SEQUENCE = {"seq_len": 32, "patch_size": 8, **NET}
STAGES = {"s1_emb_dim": 16, "s2_emb_dim": 24, "s3_emb_dim": 32}
TWINS = {f"s{i}_{key}": 2 for i in range(1, 5) for key in ("local_patch_size", "global_k")}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit.ViT": ("", VIT),
    "vit.ViT mean": ("", {**VIT, "pool": "mean", "dropout": 0.1, "emb_dropout": 0.1}),
    "simple_vit.SimpleViT": ("", VIT),
    "cait.CaiT": ("", {**VIT, "cls_depth": 1}),
    "cait.CaiT layer dropout": ("", {**VIT, "cls_depth": 1, "layer_dropout": 0.2}),
    "deepvit.DeepViT": ("", VIT),
    "efficient.ViT": ("", {"image_size": 32, "patch_size": 8, "num_classes": 7, "dim": 32}),
    "normalized_vit.nViT": ("", VIT),
    "parallel_vit.ViT": ("", VIT),
    "pit.PiT": ("", {**VIT, "depth": (1, 1)}),
    "rvt.RvT": ("", VIT),
    "simple_flash_attn_vit.SimpleViT": ("", VIT),
    "simple_uvit.SimpleUViT": ("", VIT),
    "xcit.XCiT": ("", {**VIT, "cls_depth": 1}),
    "vit_5.ViT": ("", VIT),
    "jumbo_vit.JumboViT": ("", {**VIT, "dim_head": 16, "jumbo_cls_k": 2}),
    "jet_vit.JetViT": ("", {**VIT, "dim_head": 16}),
    "looped_vit.LoopedViT": (
        "",
        {key: value for key, value in VIT.items() if key != "depth"}
        | {"pre_loop_depth": 1, "num_looped_blocks": 1, "post_loop_depth": 1, "loop_depth": 2},
    ),
    "simple_vit_with_fft.SimpleViT": ("", {**VIT, "freq_patch_size": 8}),
    "simple_vit_with_hyper_connections.SimpleViT": ("", {**VIT, "num_residual_streams": 2}),
    "simple_vit_with_patch_dropout.SimpleViT": ("", {**VIT, "patch_dropout": 0.25}),
    "simple_vit_with_qk_norm.SimpleViT": ("", VIT),
    "simple_vit_with_register_tokens.SimpleViT": ("", VIT),
    "simple_vit_with_value_residual.SimpleViT": ("", VIT),
    "simple_vit_with_relative_proj_pos_bias.SimpleViT": ("", VIT),
    "simple_vit_with_sparse_gating.SimpleViTWithSparseGating": ("", VIT),
    "simple_vit_with_specialized_cls.SimpleViT": ("", VIT),
    "simple_vit_attn_residual.SimpleViTAttnResidual": ("", VIT),
    "simple_vit_orthog_residual_update.SimpleViT": ("", VIT),
    "attn_residual_with_dca_simple_vit.SimpleViT": ("", VIT),
    "vit_for_small_dataset.ViT": ("", VIT),
    "vit_with_decorr.ViT": ("", VIT),
    "vit_with_keel_post_ln.ViT": ("", VIT),
    "vit_with_patch_dropout.ViT": ("", {**VIT, "patch_dropout": 0.25}),
    "vit_with_patch_merger.ViT": (
        "",
        {**VIT, "patch_merge_layer": 1, "patch_merge_num_tokens": 4},
    ),
    "look_vit.LookViT": (
        "",
        {"image_size": 32, "patch_size": 16, "highres_patch_size": 8, "dim": 32, "depth": 2}
        | {"heads": 2, "num_classes": 7, "cross_attn_heads": 2, "patch_conv_kernel_size": 3},
    ),
    "nest.NesT": (
        "",
        {"image_size": 32, "patch_size": 4, "dim": 16, "heads": 2, "num_hierarchies": 2}
        | {"block_repeats": (1, 1), "num_classes": 7},
    ),
    "levit.LeViT": (
        "",
        {"image_size": 64, "num_classes": 7, "stages": 2, "dim": (16, 24), "depth": 1}
        | {"heads": (2, 2), "mlp_mult": 2},
    ),
    "levit.LeViT distilled": (
        "",
        {"image_size": 64, "num_classes": 7, "stages": 2, "dim": (16, 24), "depth": 1}
        | {"heads": (2, 2), "mlp_mult": 2, "num_distill_classes": 5},
    ),
    "cct.CCT": (
        "",
        {"img_size": 32, "embedding_dim": 32, "n_conv_layers": 1, "num_layers": 2}
        | {"num_heads": 2, "mlp_ratio": 2.0, "num_classes": 7},
    ),
    "cross_vit.CrossViT": (
        "",
        {"image_size": 32, "num_classes": 7, "sm_dim": 16, "lg_dim": 24, "sm_patch_size": 8}
        | {"lg_patch_size": 16, "lg_enc_depth": 1, "depth": 2},
    ),
    "crossformer.CrossFormer": (
        "",
        {"dim": (32, 32, 48, 64), "depth": (1, 1, 1, 1), "num_classes": 7}
        | {"global_window_size": (2, 2, 2, 1), "local_window_size": 1},
    ),
    "cvt.CvT": ("", {"num_classes": 7, **STAGES, "s3_depth": 2, "s3_heads": 2}),
    "max_vit.MaxViT": (
        "",
        {"num_classes": 7, "dim": 16, "depth": (1, 1), "window_size": 4, "dim_head": 8},
    ),
    "mobile_vit.MobileViT": (
        "",
        {"image_size": (64, 64), "dims": [16, 24, 32], "num_classes": 7}
        | {"channels": [8, 8, 16, 16, 24, 24, 32, 32, 40, 40, 48]},
    ),
    "regionvit.RegionViT": (
        "",
        {"dim": (16, 16, 32, 32), "depth": (1, 1, 1, 1), "window_size": 2, "num_classes": 7},
    ),
    "scalable_vit.ScalableViT": (
        "",
        {"num_classes": 7, "dim": 16, "heads": (1, 1), "depth": (1, 1), "window_size": (4, None)}
        | {"reduction_factor": (2, 1)},
    ),
    "t2t.T2TViT": (
        "",
        {"image_size": 32, "t2t_layers": ((7, 4), (3, 2)), "dim": 32, "depth": 2, "heads": 2}
        | {"mlp_dim": 48, "num_classes": 7},
    ),
    "twins_svt.TwinsSVT": (
        "",
        {"num_classes": 7, **TWINS, **STAGES, "s4_emb_dim": 40, "s3_depth": 1, "s4_depth": 1},
    ),
    "vit_1d.ViT": ("sequence", SEQUENCE),
    "simple_vit_1d.SimpleViT": ("sequence", SEQUENCE),
    "vit_3d.ViT": ("video", VIDEO),
    "simple_vit_3d.SimpleViT": ("video", VIDEO),
    "simple_flash_attn_vit_3d.SimpleViT": ("video", VIDEO),
    "cct_3d.CCT": (
        "video",
        {"img_size": 16, "num_frames": 4, "embedding_dim": 32, "n_conv_layers": 1, "num_layers": 2}
        | {"num_heads": 2, "mlp_ratio": 2.0, "num_classes": 7, "frame_kernel_size": 3}
        | {"frame_pooling_kernel_size": 1, "frame_pooling_stride": 1},
    ),
    "vivit.ViViT": (
        "video",
        {k: v for k, v in VIDEO.items() if k != "depth"}
        | {"spatial_depth": 1, "temporal_depth": 1},
    ),
    "vivit.ViViT factorized": (
        "video",
        {k: v for k, v in VIDEO.items() if k != "depth"}
        | {"spatial_depth": 1, "temporal_depth": 1, "variant": "factorized_self_attention"},
    ),
}
"""Files and classes, what they are given, and options."""

RESIDUALS = {
    "vit.ViT": 4,
    "vit.ViT mean": 4,
    "simple_vit.SimpleViT": 4,
    "cait.CaiT": 6,
    "cait.CaiT layer dropout": 6,
    "deepvit.DeepViT": 4,
    "parallel_vit.ViT": 4,
    "pit.PiT": 4,
    "rvt.RvT": 4,
    "simple_flash_attn_vit.SimpleViT": 4,
    "xcit.XCiT": 8,
    "simple_vit_with_fft.SimpleViT": 4,
    "simple_vit_with_patch_dropout.SimpleViT": 4,
    "simple_vit_with_qk_norm.SimpleViT": 4,
    "simple_vit_with_register_tokens.SimpleViT": 4,
    "simple_vit_with_value_residual.SimpleViT": 4,
    "vit_for_small_dataset.ViT": 4,
    "vit_with_decorr.ViT": 4,
    "vit_with_patch_dropout.ViT": 4,
    "vit_with_patch_merger.ViT": 4,
    "nest.NesT": 4,
    "cct.CCT": 4,
    "cct_3d.CCT": 4,
    "cvt.CvT": 10,
    "vit_1d.ViT": 4,
    "simple_vit_1d.SimpleViT": 4,
    "vit_3d.ViT": 4,
    "simple_vit_3d.SimpleViT": 4,
    "simple_flash_attn_vit_3d.SimpleViT": 4,
    "vivit.ViViT": 4,
}
"""Attention and MLP of each layer; XCiT has a third block, and layers for the class token."""
REFUSED = {"cait.CaiT layer dropout": "layers are dropped by numbers drawn from torch's generator"}

INPUTS: dict[str, Callable[[int], torch.Tensor]] = {
    "": images(32),
    "sequence": lambda batch: torch.randn(batch, 3, 32),
    "video": lambda batch: torch.randn(batch, 3, 4, 16, 16),
}
LARGER = {"levit.LeViT", "levit.LeViT distilled", "mobile_vit.MobileViT"}
LARGER |= {"crossformer.CrossFormer", "twins_svt.TwinsSVT", "regionvit.RegionViT", "cvt.CvT"}


def _build(name: str, options: dict[str, Any]) -> nn.Module:
    file, _, kind = name.partition(" ")[0].partition(".")
    if name == "efficient.ViT":
        layer = nn.TransformerEncoderLayer(32, 2, 48, batch_first=True)
        options = {**options, "transformer": nn.TransformerEncoder(layer, 2)}
    built = getattr(importlib.import_module(f"vit_pytorch.{file}"), kind)(**options)
    assert isinstance(built, nn.Module)
    return built


def cases() -> Iterator[Case]:
    """All of them."""
    for name, (given, options) in MODELS.items():
        inputs = images(64) if name in LARGER else INPUTS[given]
        yield Case(name, lambda n=name, o=options: _build(n, o), inputs)
