"""Language models of transformers that read from left to right, small, with random weights."""

from collections.abc import Callable, Iterator
from typing import Any

from foreign_modules import Case
from foreign_modules.transformers_text import (
    SKIPS,
    alone,
    build,
    labeled,
    masked,
    named,
    positional,
)

NET: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "use_cache": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attn_implementation": "eager",
}
SDPA = {"attn_implementation": "sdpa"}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
EXPERTS |= {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
PLAIN = {"num_key_value_heads": None, "head_dim": None}
OLD = {**PLAIN, "intermediate_size": None, "max_position_embeddings": None}
OLD |= {"hidden_size": None, "num_hidden_layers": None, "num_attention_heads": None}
GPT2 = {**OLD, "pad_token_id": None, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 40}

MODELS: dict[str, tuple[dict[str, Any], Callable[[int], Any]]] = {
    "GPT2Model": (GPT2, named),
    "GPT2Model alone": (GPT2, alone),
    "GPT2Model padding": ({**GPT2, "pad_token_id": 0}, alone),
    "GPT2Model sdpa": ({**GPT2, **SDPA}, alone),
    "GPT2LMHeadModel": (GPT2, alone),
    "GPT2Model cache": ({**GPT2, "use_cache": True}, alone),
    "GPT2ForSequenceClassification": (GPT2, labeled),
    "OpenAIGPTModel": ({**GPT2, "use_cache": None}, alone),
    "GPTNeoModel": (
        {**PLAIN, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]}
        | {"num_hidden_layers": None, "num_attention_heads": None},
        named,
    ),
    "GPTNeoXModel": (PLAIN, named),
    "GPTNeoXModel sequential": ({**PLAIN, "use_parallel_residual": False}, named),
    "GPTJModel": ({**GPT2, "rotary_dim": 8}, alone),
    "CodeGenModel": ({**GPT2, "n_head": 4, "rotary_dim": 4}, alone),
    "GPTBigCodeModel": (GPT2, alone),
    "OPTModel": ({**PLAIN, "ffn_dim": 48, "word_embed_proj_dim": 32}, masked),
    "BloomModel": ({**OLD, "hidden_size": 32, "n_layer": 2, "n_head": 2}, masked),
    "FalconModel": ({**PLAIN, "alibi": False}, named),
    "FalconModel sequential": ({**PLAIN, "parallel_attn": False, "multi_query": False}, alone),
    "MptModel": ({**OLD, "d_model": 32, "n_heads": 2, "n_layers": 2}, named),
    "CTRLModel": ({**OLD, "n_embd": 32, "n_layer": 2, "n_head": 2, "dff": 48}, alone),
    "XGLMModel": (
        {**PLAIN, "d_model": 32, "num_layers": 2, "attention_heads": 2, "ffn_dim": 48}
        | {"hidden_size": None, "num_hidden_layers": None, "num_attention_heads": None},
        named,
    ),
    "BioGptModel": ({**PLAIN}, named),
    "LlamaModel": ({}, named),
    "LlamaModel alone": ({}, alone),
    "LlamaModel sdpa": (SDPA, alone),
    "LlamaModel mask": ({}, masked),
    "LlamaModel sdpa mask": (SDPA, masked),
    "LlamaForCausalLM": ({}, alone),
    "LlamaForSequenceClassification": ({}, named),
    "MistralModel": ({"sliding_window": 4}, alone),
    "MixtralModel": (EXPERTS, alone),
    "Qwen2Model": ({}, named),
    "Qwen2ForCausalLM": ({}, positional),
    "Qwen2MoeModel": (EXPERTS, alone),
    "Qwen3Model": ({}, alone),
    "GemmaModel": ({}, named),
    "Gemma2Model": ({"sliding_window": 4, "query_pre_attn_scalar": 16}, alone),
    "Gemma3TextModel": ({"sliding_window": 4, "query_pre_attn_scalar": 16}, alone),
    "PhiModel": ({"head_dim": None}, named),
    "Phi3Model": ({"head_dim": None}, alone),
    "CohereModel": ({}, alone),
    "Cohere2Model": ({"sliding_window": 4}, alone),
    "OlmoModel": ({}, alone),
    "Olmo2Model": ({}, alone),
    "StableLmModel": ({"head_dim": None}, named),
    "Starcoder2Model": ({}, alone),
    "GraniteModel": ({}, alone),
    "GlmModel": ({}, alone),
    "Glm4Model": ({}, alone),
    "NemotronModel": ({}, alone),
    "PersimmonModel": (PLAIN, alone),
    "HeliumModel": ({}, alone),
    "SmolLM3Model": ({}, alone),
    "ArceeModel": ({}, alone),
    "MambaModel": ({**OLD, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, alone),
    "RwkvModel": ({**OLD, "hidden_size": 32, "num_hidden_layers": 2}, alone),
    "XLMRobertaForCausalLM": ({**PLAIN, "is_decoder": True}, named),
}
"""Options of the configuration, and inputs."""

RESIDUALS = {
    "GPT2Model": 4,
    "GPT2Model alone": 4,
    "GPT2Model padding": 4,
    "GPT2Model sdpa": 4,
    "GPT2LMHeadModel": 4,
    "GPT2Model cache": 4,
    "GPT2ForSequenceClassification": 4,
    "OpenAIGPTModel": 4,
    "GPTNeoModel": 4,
    "GPTNeoXModel": 2,
    "GPTNeoXModel sequential": 4,
    "GPTJModel": 2,
    "CodeGenModel": 2,
    "GPTBigCodeModel": 4,
    "OPTModel": 4,
    "BloomModel": 4,
    "FalconModel": 2,
    "FalconModel sequential": 4,
    "MptModel": 4,
    "CTRLModel": 4,
    "XGLMModel": 4,
    "BioGptModel": 4,
    "PhiModel": 2,
    "CohereModel": 2,
    "Cohere2Model": 2,
    "MambaModel": 2,
    "RwkvModel": 4,
    **{
        name: 4
        for name in MODELS
        if name.startswith(("Llama", "Mistral", "Mixtral", "Qwen", "Gemma", "Phi3", "Olmo"))
        or name.startswith(("StableLm", "Starcoder", "Granite", "Glm", "Nemotron", "Persimmon"))
        or name.startswith(("Helium", "SmolLM3", "Arcee", "XLMRoberta"))
    },
}
"""Two layers: one addition after attention and one after the MLP, or one for both in parallel."""

REFUSED = dict.fromkeys(("LlamaModel sdpa mask",), SKIPS)


def cases() -> Iterator[Case]:
    """All of them."""
    for name, (options, inputs) in MODELS.items():
        yield Case(name, lambda n=name, o=options: build(n, o, **NET), inputs)


REFUSED |= {
    "GPT2Model cache": "returns a DynamicCache, an object of a class of its own",
    "GPT2Model padding": "asks whether a token is padding: (ids == pad).any()",
    "RwkvModel": "rescales its weights where the mode changes, and notes that it did",
}
