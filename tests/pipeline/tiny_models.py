"""Tiny randomly initialised models of several architectures, as Hugging Face folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    MixtralConfig,
    Qwen3Config,
)

VOCAB = 300
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}

CONFIGS: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**_COMMON, tie_word_embeddings=True),
    "qwen3": lambda: Qwen3Config(**_COMMON),
    "mixtral": lambda: MixtralConfig(**_COMMON, **_EXPERTS),
    "deepseek_v3": lambda: DeepseekV3Config(
        **{**_COMMON, "num_key_value_heads": 4, "head_dim": 8},
        moe_intermediate_size=24,
        n_routed_experts=8,
        n_group=2,
        topk_group=1,
        num_experts_per_tok=2,
        q_lora_rank=24,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=16,
        v_head_dim=12,
        first_k_dense_replace=1,
    ),
    "gemma3_text": lambda: Gemma3TextConfig(**_COMMON, sliding_window=8),
    "gemma2": lambda: Gemma2Config(**_COMMON, sliding_window=8),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB,
        n_embd=48,
        n_layer=6,
        n_head=4,
        n_positions=512,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "gpt_oss": lambda: GptOssConfig(**_COMMON, **_EXPERTS, sliding_window=8),
}

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_tiny(architecture: str, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write a random model of `architecture` with a byte-level tokenizer to `folder`."""
    torch.manual_seed(sum(architecture.encode()))
    model = AutoModelForCausalLM.from_config(CONFIGS[architecture](), dtype=dtype)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """A tokenizer whose tokens are single bytes (ids 3 to 258) and chat markers (0 to 2)."""
    markers = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
    pieces = {character: i + 3 for i, character in enumerate(_alphabet())}
    tokenizer = Tokenizer(models.BPE(vocab=markers | pieces, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(markers))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    settings = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")


def _alphabet() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())
