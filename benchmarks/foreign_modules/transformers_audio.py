"""Speech, sound and time series models of transformers, small, with random weights."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from foreign_modules import Case, tensors
from foreign_modules.transformers_text import build

WAVES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": [8, 8],
    "conv_stride": [4, 4],
    "conv_kernel": [8, 8],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
    "vocab_size": 20,
    "pad_token_id": 0,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
    "num_codevectors_per_group": 4,
}


def _positional(batch: int) -> Any:
    return torch.randn(batch, 400)


def _named(batch: int) -> dict[str, torch.Tensor]:
    return {"input_values": torch.randn(batch, 400)}


WHISPER = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 99}
WHISPER |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_mel_bins": 8}
WHISPER |= {"encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_source_positions": 20}
WHISPER |= {"max_target_positions": 20, "use_cache": False, "pad_token_id": 0}
WHISPER |= {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
NET = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
NET |= {"intermediate_size": 48}
PATCHES = {"d_model": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32}
PATCHES |= {"context_length": 32, "patch_length": 8, "patch_stride": 8, "num_input_channels": 2}

MODELS: dict[str, tuple[dict[str, Any], Callable[[int], Any]]] = {
    "Wav2Vec2Model": (WAVES, _positional),
    "Wav2Vec2Model stable": (
        {**WAVES, "do_stable_layer_norm": True, "feat_extract_norm": "layer"},
        _named,
    ),
    "Wav2Vec2Model layer drop": ({**WAVES, "layerdrop": 0.5}, _positional),
    "Wav2Vec2Model augmented": (
        {**WAVES, "apply_spec_augment": True, "mask_time_prob": 0.5, "mask_time_length": 2},
        _positional,
    ),
    "Wav2Vec2ForCTC": (WAVES, _named),
    "Wav2Vec2ForSequenceClassification": (WAVES, _named),
    "Wav2Vec2ConformerModel": ({**WAVES, "position_embeddings_type": "rotary"}, _positional),
    "HubertModel": (WAVES, _positional),
    "HubertForSequenceClassification": (WAVES, _named),
    "WavLMModel": ({**WAVES, "num_buckets": 8, "max_bucket_distance": 16}, _positional),
    "UniSpeechModel": (WAVES, _positional),
    "UniSpeechSatModel": (WAVES, _positional),
    "Data2VecAudioModel": ({**WAVES, "conv_pos_kernel_size": 3}, _positional),
    "SEWModel": ({**WAVES, "squeeze_factor": 1}, _positional),
    "ASTModel": (
        {**NET, "patch_size": 8, "frequency_stride": 4, "time_stride": 4}
        | {"max_length": 24, "num_mel_bins": 16},
        tensors((24, 16)),
    ),
    "ASTForAudioClassification": (
        {**NET, "patch_size": 8, "frequency_stride": 8, "time_stride": 8}
        | {"max_length": 24, "num_mel_bins": 16},
        lambda batch: {"input_values": torch.randn(batch, 24, 16)},
    ),
    "WhisperModel": (
        WHISPER,
        lambda batch: {
            "input_features": torch.randn(batch, 8, 40),
            "decoder_input_ids": torch.randint(4, 99, (batch, 6)),
        },
    ),
    "WhisperForAudioClassification": (
        WHISPER,
        lambda batch: {"input_features": torch.randn(batch, 8, 40)},
    ),
    "Speech2TextModel": (
        {**WHISPER, "input_feat_per_channel": 8, "conv_channels": 16, "num_mel_bins": None}
        | {"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0},
        lambda batch: {
            "input_features": torch.randn(batch, 16, 8),
            "decoder_input_ids": torch.randint(4, 99, (batch, 6)),
        },
    ),
    "PatchTSTModel": (PATCHES, lambda batch: {"past_values": torch.randn(batch, 32, 2)}),
    "PatchTSMixerModel": (
        {"context_length": 32, "patch_length": 8, "patch_stride": 8, "num_input_channels": 2}
        | {"d_model": 8, "num_layers": 2},
        lambda batch: {"past_values": torch.randn(batch, 32, 2)},
    ),
    "EncodecModel": (
        {"hidden_size": 8, "num_filters": 4, "num_lstm_layers": 1, "codebook_size": 16}
        | {"codebook_dim": 8, "upsampling_ratios": [4, 2], "target_bandwidths": [24.0]},
        lambda batch: torch.randn(batch, 1, 64),
    ),
    "ClapAudioModel": (
        {"hidden_size": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1]}
        | {"num_attention_heads": [1, 2], "num_mel_bins": 16, "spec_size": 64, "window_size": 4}
        | {"num_hidden_layers": 2, "patch_stride": [4, 4], "patch_size": 4},
        lambda batch: torch.randn(batch, 1, 250, 16),
    ),
}
"""Options of the configuration, and inputs."""

RESIDUALS = {
    "Wav2Vec2Model stable": 5,
    "ASTModel": 4,
    "ASTForAudioClassification": 4,
    "WhisperModel": 10,
    "WhisperForAudioClassification": 4,
    "Speech2TextModel": 10,
    "HubertModel": 5,
    "HubertForSequenceClassification": 5,
    "Wav2Vec2Model": 5,
    "Wav2Vec2Model layer drop": 5,
    "Wav2Vec2ForCTC": 5,
    "UniSpeechModel": 5,
    "UniSpeechSatModel": 5,
    "WavLMModel": 5,
}
"""Attention and MLP of two layers. Before them, x + gelu(convolution(x)) stands for positions: it
follows from x, as the convolutions between the stages of CoaT do, and embeddings do not."""

_NUMPY = "the spans that are masked are drawn by NumPy"
_DRAWS = "LayerDrop draws from torch's generator and decides by the number in Python"
REFUSED = {"Wav2Vec2Model augmented": _NUMPY, "Wav2Vec2Model layer drop": _DRAWS}


def cases() -> Iterator[Case]:
    """All of them."""
    for name, (options, inputs) in MODELS.items():
        yield Case(name, lambda n=name, o=options: build(n, o), inputs)


REFUSED |= {
    "HubertForSequenceClassification": "its first forward registers hooks on submodules",
    "Wav2Vec2ForSequenceClassification": "its first forward registers hooks on submodules",
}
