"""Text encoders of transformers, small, with random weights."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import transformers
from torch import nn

from foreign_modules import Case

NET: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "attn_implementation": "eager",
}
SDPA = {"attn_implementation": "sdpa"}


SKIPS = "a mask that hides nothing is left out: masking_utils.py asks padding_mask.all()"
"""Why models are refused that are given a mask of two dimensions."""
WARNS = "warns of padding without a mask: asks whether pad_token_id is among the token numbers"
"""Why models are refused that are given no mask and know a token that pads."""


def named(batch: int) -> dict[str, torch.Tensor]:
    """Token numbers and what is added to the attention, which hides the end of one sample."""
    bias = torch.zeros(batch, 1, 12, 12)
    bias[-1, :, :, 9:] = torch.finfo(torch.float32).min
    return {"input_ids": torch.randint(4, 99, (batch, 12)), "attention_mask": bias}


def masked(batch: int) -> dict[str, torch.Tensor]:
    """Token numbers and a mask that hides the end of one sample."""
    mask = torch.ones(batch, 12, dtype=torch.long)
    mask[-1, 9:] = 0
    return {"input_ids": torch.randint(4, 99, (batch, 12)), "attention_mask": mask}


def positional(batch: int) -> tuple[torch.Tensor, ...]:
    """The same, by position."""
    return tuple(named(batch).values())


def alone(batch: int) -> torch.Tensor:
    """Token numbers alone."""
    return named(batch)["input_ids"]


def labeled(batch: int) -> dict[str, torch.Tensor]:
    """With classes, for models that compute their loss."""
    return {**named(batch), "labels": torch.arange(batch) % 2}


def build(name: str, options: dict[str, Any], **net: Any) -> nn.Module:
    """A model of a class, from options of its configuration; None leaves out that of the net."""
    kind = getattr(transformers, name.partition(" ")[0])
    given = {key: value for key, value in {**net, **options}.items() if value is not None}
    model = kind(kind.config_class(**given))
    assert isinstance(model, nn.Module)
    return model


MODELS: dict[str, tuple[dict[str, Any], Callable[[int], Any]]] = {
    "BertModel": ({}, named),
    "BertModel positional": ({}, positional),
    "BertModel alone": ({}, alone),
    "BertModel mask": ({}, masked),
    "BertModel sdpa": (SDPA, named),
    "BertModel sdpa mask": (SDPA, masked),
    "BertForSequenceClassification": ({}, named),
    "BertForSequenceClassification loss": ({}, labeled),
    "BertForMaskedLM": ({}, named),
    "BertForTokenClassification": ({}, positional),
    "BertForQuestionAnswering": ({}, named),
    "BertForNextSentencePrediction": ({}, named),
    "BertForMultipleChoice": (
        {},
        lambda batch: {key: x[:, None].repeat(1, 3, 1) for key, x in masked(batch).items()},
    ),
    "BertModel all states": ({"output_hidden_states": True, "output_attentions": True}, named),
    "BertModel tuple": ({"return_dict": False}, named),
    "BertGenerationEncoder": ({"use_cache": False}, named),
    "RobertaModel": ({}, named),
    "RobertaForSequenceClassification": ({}, positional),
    "RobertaPreLayerNormModel": ({}, named),
    "RobertaModel mask": ({}, masked),
    "XLMRobertaModel": ({}, named),
    "XLMRobertaXLModel": ({}, named),
    "CamembertModel": ({}, positional),
    "XmodModel": ({"languages": ["en_XX"], "default_language": "en_XX"}, named),
    "Data2VecTextModel": ({}, named),
    "DistilBertModel": (
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
        named,
    ),
    "DistilBertForSequenceClassification": (
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
        positional,
    ),
    "AlbertModel": ({"embedding_size": 16}, named),
    "AlbertModel groups": ({"embedding_size": 16, "num_hidden_groups": 2}, positional),
    "ElectraModel": ({"embedding_size": 16}, named),
    "ElectraForPreTraining": ({"embedding_size": 16}, positional),
    "DebertaModel": (
        {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 16},
        masked,
    ),
    "DebertaV2Model": (
        {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 16},
        masked,
    ),
    "DebertaV2Model convolution": ({"conv_kernel_size": 3, "conv_act": "gelu"}, masked),
    "MPNetModel": ({}, named),
    "MobileBertModel": (
        {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16}
        | {"num_feedforward_networks": 2},
        named,
    ),
    "ConvBertModel": ({"embedding_size": 32, "head_ratio": 1}, named),
    "FunnelModel": (
        {"block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 32, "n_head": 2}
        | {"d_head": 16, "d_inner": 48, "num_hidden_layers": None},
        masked,
    ),
    "FunnelBaseModel": (
        {"block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 32, "n_head": 2}
        | {"d_head": 16, "d_inner": 48, "num_hidden_layers": None},
        masked,
    ),
    "XLNetModel": (
        {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 48}
        | {"max_position_embeddings": None},
        masked,
    ),
    "FNetModel": ({}, alone),
    "IBertModel": ({}, named),
    "LayoutLMModel": (
        {"max_2d_position_embeddings": 40},
        lambda batch: {**masked(batch), "bbox": torch.arange(12)[:, None].repeat(batch, 1, 4)},
    ),
    "LiltModel": (
        {"max_2d_position_embeddings": 40, "channel_shrink_ratio": 2, "hidden_size": 36},
        lambda batch: {
            "input_ids": alone(batch),
            "bbox": torch.arange(12)[:, None].repeat(batch, 1, 4),
        },
    ),
    "BrosModel": (
        {"dim_bbox": 8, "hidden_size": 64},
        lambda batch: {"input_ids": alone(batch), "bbox": torch.rand(batch, 12, 8)},
    ),
    "MarkupLMModel": ({}, alone),
    "ErnieModel": ({"use_task_id": True}, named),
    "MegatronBertModel": ({}, named),
    "NystromformerModel": ({"num_landmarks": 4, "segment_means_seq_len": 12}, alone),
    "RemBertModel": ({"input_embedding_size": 16, "output_embedding_size": 16}, named),
    "RoFormerModel": ({"embedding_size": 32}, named),
    "RoCBertModel": (
        {"pronunciation_vocab_size": 99, "shape_vocab_size": 99}
        | {"pronunciation_embed_dim": 8, "shape_embed_dim": 8},
        named,
    ),
    "SplinterModel": ({}, named),
    "SqueezeBertModel": ({"embedding_size": 32}, named),
    "YosoModel": ({"use_expectation": True}, masked),
    "MraModel": ({"block_per_row": 1}, named),
    "BigBirdModel": ({"attention_type": "original_full"}, named),
    "LongformerModel": ({"attention_window": 4}, masked),
    "LukeModel": ({"entity_vocab_size": 10, "entity_emb_size": 16}, named),
    "CanineModel": (
        {"num_hash_functions": 2, "num_hash_buckets": 16, "downsampling_rate": 2}
        | {"local_transformer_stride": 4},
        masked,
    ),
    "TapasModel": ({}, named),
    "VisualBertModel": ({"visual_embedding_dim": 8}, named),
    "FlaubertModel": ({"emb_dim": 32, "n_layers": 2, "n_heads": 2, "n_words": 99}, masked),
    "XLMModel": ({"emb_dim": 32, "n_layers": 2, "n_heads": 2, "n_words": 99}, masked),
    "EsmModel": ({"pad_token_id": 1, "position_embedding_type": "rotary"}, masked),
    "ModernBertModel": ({"local_attention": 4, "pad_token_id": 0}, named),
    "ModernBertForSequenceClassification": ({"local_attention": 4, "pad_token_id": 0}, named),
    "NomicBertModel": ({}, named),
    "EuroBertModel": ({"num_key_value_heads": 2, "pad_token_id": 0}, named),
    "PerceiverModel": (
        {"num_latents": 4, "d_latents": 16, "d_model": 8, "num_blocks": 1}
        | {"num_self_attends_per_block": 2, "num_self_attention_heads": 2}
        | {"num_cross_attention_heads": 1},
        lambda batch: torch.randn(batch, 12, 8),
    ),
    "DPRContextEncoder": ({}, named),
}
"""Options of the configuration, and inputs."""

FOUR = """
    BertModel BertForSequenceClassification BertForMaskedLM BertForTokenClassification
    BertForQuestionAnswering BertForNextSentencePrediction BertForMultipleChoice
    BertGenerationEncoder RobertaModel RobertaForSequenceClassification RobertaPreLayerNormModel
    XLMRobertaModel XLMRobertaXLModel CamembertModel Data2VecTextModel DistilBertModel
    DistilBertForSequenceClassification AlbertModel ElectraModel ElectraForPreTraining
    DebertaModel DebertaV2Model MPNetModel ConvBertModel XLNetModel FNetModel LayoutLMModel
    MarkupLMModel ErnieModel MegatronBertModel RemBertModel RoFormerModel RoCBertModel
    SplinterModel SqueezeBertModel BigBirdModel LukeModel TapasModel VisualBertModel
    FlaubertModel XLMModel EsmModel ModernBertModel ModernBertForSequenceClassification
    NomicBertModel EuroBertModel DPRContextEncoder
""".split()
RESIDUALS = {name: 4 for name in MODELS if name.partition(" ")[0] in FOUR}
"""Two layers, each of which adds once after attention and once after the MLP."""
RESIDUALS.pop("DebertaV2Model convolution", None)

REFUSED = dict.fromkeys(
    ("BertModel mask", "BertModel sdpa mask", "RobertaModel mask", "EsmModel"), SKIPS
)
REFUSED |= {
    "BertForMultipleChoice": SKIPS,
    "CanineModel": SKIPS,
    "LiltModel": WARNS,
    "MarkupLMModel": WARNS,
    "NystromformerModel": WARNS,
    "FlaubertModel": "asserts on the longest sample: lengths.max().item() <= slen",
    "XLMModel": "asserts on the longest sample: lengths.max().item() <= slen",
    "IBertModel": "asserts in train that no activation is NaN",
    "LongformerModel": "asks whether any token attends globally: is_index_global_attn.any().item()",
}


def cases() -> Iterator[Case]:
    """All of them."""
    for name, (options, inputs) in MODELS.items():
        yield Case(name, lambda n=name, o=options: build(n, o, **NET), inputs)


REFUSED |= {
    "BertModel all states": "its first forward registers hooks on submodules",
    "BertForSequenceClassification loss": "its first forward writes config.problem_type",
    "XmodModel": "picks adapters by the language ids of the batch",
}
