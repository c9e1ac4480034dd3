"""Encoders with decoders, of text and of text with images, small, with random weights."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    BlipConfig,
    BlipModel,
    CLIPConfig,
    CLIPModel,
    FlavaImageConfig,
    FlavaImageModel,
    GroupViTConfig,
    GroupViTModel,
    PreTrainedModel,
    SiglipConfig,
    SiglipModel,
)

from foreign_modules import Case
from foreign_modules.transformers_text import SKIPS, alone, build, masked

NET: dict[str, Any] = {
    "vocab_size": 99,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 40,
    "use_cache": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "attn_implementation": "eager",
}
T5: dict[str, Any] = {
    "vocab_size": 99,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "use_cache": False,
    "decoder_start_token_id": 0,
}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
VISION |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8}
TEXT = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
TEXT |= {"num_attention_heads": 2, "max_position_embeddings": 40, "eos_token_id": 2}
TEXT |= {"bos_token_id": 1, "pad_token_id": 0}


def _decoded(batch: int) -> dict[str, torch.Tensor]:
    return {"input_ids": alone(batch), "decoder_input_ids": torch.randint(4, 99, (batch, 7))}


def _masked(batch: int) -> dict[str, torch.Tensor]:
    return {**_decoded(batch), **masked(batch)}


def _both(batch: int) -> dict[str, torch.Tensor]:
    return {"input_ids": alone(batch), "pixel_values": torch.randn(batch, 3, 32, 32)}


PAIRS: dict[str, dict[str, Any]] = {
    "BartModel": {},
    "BartModel layer drop": {"encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5},
    "BartForConditionalGeneration": {},
    "MBartModel": {},
    "PegasusModel": {},
    "MarianModel": {},
    "BlenderbotModel": {},
    "BlenderbotSmallModel": {},
    "PLBartModel": {},
    "M2M100Model": {"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0},
    "LEDModel": {"attention_window": 4, "max_encoder_position_embeddings": 40}
    | {"max_decoder_position_embeddings": 40},
    "NllbMoeModel": {"num_experts": 4, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0},
}
MASKED = ("BartModel", "MarianModel")
T5S: dict[str, dict[str, Any]] = {
    "T5Model": {},
    "T5ForConditionalGeneration": {},
    "T5Model gated": {"feed_forward_proj": "gated-gelu"},
    "MT5Model": {},
    "UMT5Model": {},
    "LongT5Model": {"encoder_attention_type": "local", "local_radius": 4},
    "SwitchTransformersModel": {"num_experts": 4, "num_sparse_encoder_layers": 1},
    "T5EncoderModel": {},
}


def _joint(
    kind: type[PreTrainedModel], config: type[Any], text: dict[str, Any] = TEXT
) -> nn.Module:
    made: nn.Module = kind(config(text_config=text, vision_config=VISION, projection_dim=16))
    return made


def _siglip() -> nn.Module:
    made: nn.Module = SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION))
    return made


def _flava() -> nn.Module:
    made: nn.Module = FlavaImageModel(FlavaImageConfig(**VISION))
    return made


def _group() -> nn.Module:
    vision = {**VISION, "depths": [1, 1], "num_group_tokens": [4, 0], "num_output_groups": [4, 2]}
    made: nn.Module = GroupViTModel(
        GroupViTConfig(text_config=TEXT, vision_config=vision, projection_dim=16)
    )
    return made


JOINT: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]] = {
    "CLIPModel": (lambda: _joint(CLIPModel, CLIPConfig), _both),
    "AltCLIPModel": (lambda: _joint(AltCLIPModel, AltCLIPConfig), _both),
    "BlipModel": (lambda: _joint(BlipModel, BlipConfig), _both),
    "SiglipModel": (_siglip, _both),
    "GroupViTModel": (_group, _both),
    "FlavaImageModel": (_flava, lambda batch: torch.randn(batch, 3, 32, 32)),
}

RESIDUALS = {
    **{name: 10 for name in PAIRS if name.startswith(("Bart", "MBart", "Pegasus", "Marian"))},
    **{name: 10 for name in PAIRS if name.startswith(("Blender", "PLBart", "M2M"))},
    "BartModel layer drop": 10,
    "T5Model": 10,
    "T5ForConditionalGeneration": 10,
    "T5Model gated": 10,
    "MT5Model": 10,
    "UMT5Model": 10,
    "LongT5Model": 10,
    "SwitchTransformersModel": 10,
    "T5EncoderModel": 4,
    "CLIPModel": 8,
    "SiglipModel": 9,
    "FlavaImageModel": 4,
}
"""2 in each of two encoder layers, 3 in each of two decoder layers; SigLIP pools by a block."""

_DRAWS = "LayerDrop draws from torch's generator and decides by the number in Python"
REFUSED = {"BartModel layer drop": _DRAWS, **{f"{name} mask": SKIPS for name in MASKED}}


def cases() -> Iterator[Case]:
    """All of them."""
    for name, options in PAIRS.items():
        yield Case(name, lambda n=name, o=options: build(n, o, **NET), _decoded)
    for name in MASKED:
        yield Case(f"{name} mask", lambda n=name: build(n, {}, **NET), _masked)
    for name, options in T5S.items():
        inputs = alone if name == "T5EncoderModel" else _decoded
        yield Case(name, lambda n=name, o=options: build(n, o, **T5), inputs)
    for name, (make, inputs) in JOINT.items():
        yield Case(name, make, inputs)


REFUSED |= {
    "SwitchTransformersModel": "routes tokens to experts by nonzero()",
}
