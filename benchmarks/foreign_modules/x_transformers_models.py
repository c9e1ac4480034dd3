"""Transformers of x-transformers, with the options that change what is computed."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from x_transformers import (
    AutoregressiveWrapper,
    ContinuousTransformerWrapper,
    Decoder,
    Encoder,
    TransformerWrapper,
    ViTransformerWrapper,
    XTransformer,
)

from foreign_modules import Case, images, tensors, tokens

LAYERS: dict[str, Any] = {"dim": 32, "depth": 2, "heads": 2, "attn_dim_head": 16}
NET: dict[str, Any] = {"num_tokens": 99, "max_seq_len": 16}

ENCODERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"attn_dropout": 0.1, "ff_dropout": 0.1},
    "layer dropout": {"layer_dropout": 0.2},
    "scale norm": {"use_scalenorm": True},
    "rms norm": {"use_rmsnorm": True, "ff_glu": True},
    "dynamic tanh": {"use_dynamic_tanh": True},
    "post norm": {"pre_norm": False},
    "sandwich": {"sandwich_norm": True},
    "macaron": {"macaron": True},
    "T5 bias": {"rel_pos_bias": True},
    "dynamic bias": {"dynamic_pos_bias": True},
    "rotary": {"rotary_pos_emb": True},
    "residual attention": {"residual_attn": True},
    "gated": {"gate_residual": True},
    "scaled": {"scale_residual": True},
    "layer scale": {"use_layerscale": True},
    "swish": {"ff_swish": True, "ff_relu_squared": False},
    "relu squared": {"ff_relu_squared": True},
    "talking heads": {"attn_pre_talking_heads": True, "attn_post_talking_heads": True},
    "memory": {"attn_num_mem_kv": 4},
    "sparse": {"attn_sparse_topk": 4},
    "value residual": {"add_value_residual": True},
    "hyper connections": {"num_residual_streams": 2},
    "U-net skips": {"unet_skips": True},
    "head scale": {"attn_head_scale": True},
    "qk norm": {"attn_qk_norm": True},
}
DECODERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "alibi": {"alibi_pos_bias": True},
    "xpos": {"rotary_pos_emb": True, "rotary_xpos": True},
    "flash": {"attn_flash": True},
    "shifted": {"shift_tokens": 1},
    "one head of keys": {"attn_one_kv_head": True},
    "gated values": {"attn_gate_values": True},
    "soft clamp": {"attn_softclamp_logits": True},
    "weights tied": {"weight_tie_layers": True},
}


def _encoder(options: dict[str, Any]) -> nn.Module:
    return TransformerWrapper(**NET, attn_layers=Encoder(**LAYERS, **options))


def _decoder(options: dict[str, Any]) -> nn.Module:
    return TransformerWrapper(**NET, attn_layers=Decoder(**LAYERS, **options))


def _both(batch: int) -> dict[str, torch.Tensor]:
    return {"src": tokens()(batch), "tgt": tokens()(batch)}


def _translator() -> nn.Module:
    sides = {"num_tokens": 99, "depth": 2, "heads": 2, "max_seq_len": 16}
    enc = {f"enc_{key}": value for key, value in sides.items()}
    return XTransformer(dim=32, **enc, **{f"dec_{key}": value for key, value in sides.items()})


OTHERS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]] = {
    "ViT": (
        lambda: ViTransformerWrapper(
            image_size=32, patch_size=8, num_classes=7, attn_layers=Encoder(**LAYERS)
        ),
        images(32),
    ),
    "continuous": (
        lambda: ContinuousTransformerWrapper(
            dim_in=8, dim_out=4, max_seq_len=16, attn_layers=Encoder(**LAYERS)
        ),
        tensors((12, 8)),
    ),
    "layers alone": (lambda: Encoder(**LAYERS), tensors((12, 32))),
    "autoregressive": (lambda: AutoregressiveWrapper(_decoder({})), tokens()),
    "encoder and decoder": (_translator, _both),
}

RESIDUALS = {
    **{f"encoder, {name}": 4 for name in ENCODERS},
    **{f"decoder, {name}": 4 for name in DECODERS},
    "encoder, macaron": 6,
    "ViT": 4,
    "continuous": 4,
    "layers alone": 4,
    "autoregressive": 4,
    "encoder and decoder": 10,
}
"""Attention and MLP of each layer, with macaron a further MLP, with a decoder cross-attention."""
for _unclear in ("gated", "hyper connections"):
    # a GRU, and several streams that are mixed: neither is one addition
    del RESIDUALS[f"encoder, {_unclear}"]

REFUSED = {"encoder, layer dropout": "layers are dropped by Python's random"}


def cases() -> Iterator[Case]:
    """All of them."""
    for name, options in ENCODERS.items():
        yield Case(f"encoder, {name}", lambda o=options: _encoder(o), tokens())
    for name, options in DECODERS.items():
        yield Case(f"decoder, {name}", lambda o=options: _decoder(o), tokens())
    for name, (build, inputs) in OTHERS.items():
        yield Case(name, build, inputs)
