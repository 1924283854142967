"""Which architectures are served: those that are known to run in stages as transformers runs them.

`skeleton` finds by form where a model can be cut, and most decoders have that form. But a model can
have it and still compute something else when it is cut (an attention of its own, a head that looks
at more than hidden states), and nobody would notice. So an architecture is in this list only if the
tests generate with a small model of it, in stages and with transformers, and get the same tokens.

The names are transformers' `model_type`. No torch here: a configuration is refused before anything
is loaded.
"""

from __future__ import annotations

from pipeline.models.errors import UnsupportedModel

SERVED = frozenset(
    {
        "afmoe",
        "apertus",
        "arcee",
        "aria_text",
        "beam",
        "bitnet",
        "cohere",
        "cohere2",
        "cohere2_moe",
        "cwm",
        "deepseek_v2",
        "deepseek_v3",
        "dots1",
        "ernie4_5",
        "ernie4_5_moe",
        "exaone4",
        "exaone_moe",
        "flex_olmo",
        "gemma",
        "gemma2",
        "gemma3_text",
        "glm",
        "glm4",
        "glm4_moe",
        "glm4_moe_lite",
        "gpt2",
        "gpt_neox",
        "gpt_oss",
        "granite",
        "granite_swa",
        "granitemoe",
        "granitemoe_swa",
        "granitemoeshared",
        "helium",
        "hunyuan_v1_dense",
        "hy_v3",
        "hyperclovax",
        "internlm3",
        "iquestcoder",
        "jais2",
        "kolibri1",
        "laguna",
        "llama",
        "mellum",
        "mimo_v2_flash",
        "minicpm3",
        "minimax_m2",
        "minimax_m3_vl_text",
        "ministral",
        "ministral3",
        "mistral",
        "mixtral",
        "olmo2",
        "olmo3",
        "olmoe",
        "persimmon",
        "phi",
        "phi3",
        "phimoe",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "seed_oss",
        "smollm3",
        "solar_open",
        "starcoder2",
        "vaultgemma",
        "youtu",
    }
)


def check_architecture(model_type: object, where: str) -> None:
    """Refuse an architecture that is not served; `where` is the file that names it. Raises
    `UnsupportedModel`."""
    if model_type not in SERVED:
        raise UnsupportedModel(
            f"{where}: model_type {model_type!r} is not served; docs/reference/models.md lists "
            "the architectures that are, and docs/contributor.md says how to add one"
        )
