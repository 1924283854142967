"""A tiny random checkpoint of every architecture that is served, and checkpoints with oddities."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.pipeline.tiny_models import save_tokenizer

_BASE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
_EXPERTS = {"num_local_experts": 4, **_MOE}
_ROUTED = {"n_routed_experts": 4, "n_group": 2, "topk_group": 1, "n_shared_experts": 1, **_MOE}
_MLA = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 8,
}
_WINDOW = {"sliding_window": 8}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "afmoe": {"num_experts": 4, **_MOE, **_WINDOW},
    "apertus": {},
    "arcee": {},
    "aria_text": {"moe_num_experts": 4, "moe_topk": 2},
    "beam": {},
    "bitnet": {},
    "cohere": {},
    "cohere2": _WINDOW,
    "cohere2_moe": {"num_experts": 4, **_MOE},
    "cwm": _WINDOW,
    "deepseek_v2": {**_MLA, **_ROUTED, "first_k_dense_replace": 1},
    "deepseek_v3": {**_MLA, **_ROUTED, "first_k_dense_replace": 1},
    "dots1": {**_ROUTED, "first_k_dense_replace": 1},
    "ernie4_5": {},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24},
    "exaone4": _WINDOW,
    "exaone_moe": {"num_experts": 4, **_MOE, "n_group": 1, "topk_group": 1},
    "flex_olmo": {"num_experts": 4, **_MOE},
    "gemma": {},
    "gemma2": _WINDOW,
    "gemma3_text": _WINDOW,
    "glm": {},
    "glm4": {},
    "glm4_moe": {**_ROUTED, "first_k_dense_replace": 1},
    "glm4_moe_lite": {**_MLA, **_ROUTED},
    "gpt2": {},
    "gpt_neox": {},
    "gpt_oss": {**_EXPERTS, **_WINDOW},
    "granite": {},
    "granite_swa": _WINDOW,
    "granitemoe": _EXPERTS,
    "granitemoe_swa": _EXPERTS,
    "granitemoeshared": _EXPERTS,
    "helium": {},
    "hunyuan_v1_dense": {},
    "hy_v3": {"num_experts": 4, **_MOE},
    "hyperclovax": {},
    "internlm3": {},
    "iquestcoder": {},
    "jais2": {},
    "kolibri1": {"num_experts": 4, **_MOE},
    "laguna": {"num_experts": 4, **_MOE},
    "llama": {},
    "mellum": {"num_experts": 4, **_MOE},
    "mimo_v2_flash": {**_ROUTED},
    "minicpm3": {**_MLA},
    "minimax_m2": {**_EXPERTS},
    "minimax_m3_vl_text": {**_EXPERTS},
    "ministral": _WINDOW,
    "ministral3": {},
    "mistral": _WINDOW,
    "mixtral": _EXPERTS,
    "olmo2": {},
    "olmo3": _WINDOW,
    "olmoe": {"num_experts": 4, **_MOE},
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "phimoe": _EXPERTS,
    "qwen2": {},
    "qwen2_moe": {"num_experts": 4, **_MOE, "shared_expert_intermediate_size": 24},
    "qwen3": {},
    "qwen3_moe": {"num_experts": 4, **_MOE},
    "seed_oss": {},
    "smollm3": {},
    "solar_open": {**_ROUTED},
    "starcoder2": _WINDOW,
    "vaultgemma": _WINDOW,
    "youtu": {**_MLA},
}


def save_model(
    folder: Path,
    kind: str = "llama",
    dtype: torch.dtype = torch.float32,
    shard: str = "1GB",
    **changes: Any,
) -> Path:
    """A checkpoint of architecture `kind` with random numbers in every weight, zeros and ones of
    the initialisation included. `shard` is the largest size of a file."""
    torch.manual_seed(sum(kind.encode()))
    config = CONFIG_MAPPING[kind](**{**_BASE, **ARCHITECTURES[kind], **changes})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            # Embeddings that outweigh the layers would have the model repeat its last token.
            weights.add_(torch.randn_like(weights), alpha=0.05 if "embed" in name else 0.2)
    folder.mkdir(parents=True)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    save_tokenizer(folder)
    return folder


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of a checkpoint that has one file."""
    file = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def edit_json(folder: Path, name: str, **changes: Any) -> None:
    """Set fields of a JSON file; None takes a field out. A file that is not there is made."""
    path = folder / name
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    settings = {k: v for k, v in (settings | changes).items() if v is not None}
    path.write_text(json.dumps(settings), encoding="utf-8")
