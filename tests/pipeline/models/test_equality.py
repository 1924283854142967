"""A prepared model, cut into stages, says what transformers says of the checkpoint: the same ids of
a conversation, and the same tokens after them. Or it is refused (`test_refusals`)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.models.architectures import SERVED
from pipeline.models.prepared import PreparedModel
from pipeline.models.store import prepare
from pipeline.models.tokenizer import ChatTokenizer
from pipeline.runner.local_ring import LocalRing, load_ring
from proofs.evidence.sequence import SequenceRequest
from tests.paths import ROOT
from tests.pipeline.model_zoo import ARCHITECTURES, edit_json, edit_weights, save_model
from tests.pipeline.tiny_models import CHAT_TEMPLATE

NEW = 5
CHAT = [
    {"role": "system", "content": "Kürze, bitte."},
    {"role": "user", "content": "Hi  \n there"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "tool", "content": '{"sum": 4}'},
    {"role": "user", "content": "and <|im_end|> 漢字?"},
]


def same(folder: Path, store: Path, dtype: str = "auto") -> PreparedModel:
    """Prepare a checkpoint and compare all that it says with transformers."""
    prepared = prepare(str(folder), store, dtype=dtype)
    ours = ChatTokenizer(prepared)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=False)
    assert ours.encode_chat(CHAT) == ids
    assert ours.encode("plain text") == tokenizer("plain text")["input_ids"]
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    with torch.inference_mode():
        whole = theirs.generate(torch.tensor([ids]), max_new_tokens=NEW, do_sample=False)
    layers = prepared.manifest.layers
    ring = LocalRing(load_ring(prepared, [1, layers], len(ids) + NEW))
    request = SequenceRequest(
        sequence_id=bytes(16), prompt_ids=tuple(ids), max_tokens=NEW, eos_ids=ours.eos_ids
    )
    (made,) = ring.generate([request])
    assert list(made.output_ids) == whole[0, len(ids) :].tolist()
    return prepared


def test_every_architecture_that_is_served_is_compared_and_listed() -> None:
    assert ARCHITECTURES.keys() == SERVED
    text = (ROOT / "docs/reference/models.md").read_text(encoding="utf-8")
    listed = text.partition("## Architectures")[2].partition("\n\n")[2].partition("\n\n")[2]
    assert set(re.findall(r"`([^`]+)`", listed.partition("\n\n")[0])) == SERVED


@pytest.mark.parametrize("kind", sorted(SERVED))
def test_an_architecture_says_what_transformers_says(kind: str, tmp_path: Path) -> None:
    same(save_model(tmp_path / kind, kind), tmp_path / "store")


def other_head(folder: Path) -> None:
    edit_weights(folder, lambda w: w.__setitem__("lm_head.weight", torch.randn(300, 32)))


def equal_head(folder: Path) -> None:
    edit_weights(
        folder, lambda w: w.__setitem__("lm_head.weight", w["model.embed_tokens.weight"].clone())
    )


def head_only(folder: Path) -> None:
    edit_weights(
        folder, lambda w: w.__setitem__("lm_head.weight", w.pop("model.embed_tokens.weight"))
    )


def without_prefix(folder: Path) -> None:
    def change(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            weights[name.removeprefix("model.")] = weights.pop(name)

    edit_weights(folder, change)


def rotary_tables(folder: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    edit_weights(folder, lambda w: w.__setitem__(name, torch.ones(4)))


def leftovers(folder: Path) -> None:
    """Other files with weights, which transformers does not open."""
    for name in ("consolidated.safetensors", "model-00001-of-00002.safetensors"):
        (folder / name).write_bytes(b"not for you")
    (folder / "pytorch_model.bin").write_bytes(b"nor this")


def dtype_not_said(folder: Path) -> None:
    edit_json(folder, "config.json", dtype=None)


def several_ends(folder: Path) -> None:
    edit_json(folder, "generation_config.json", eos_token_id=list(range(3, 120)))


def ends_in_config(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    edit_json(folder, "config.json", eos_token_id=list(range(3, 120)))


def no_end(folder: Path) -> None:
    """A generation_config.json without an end: config.json's does not count."""
    edit_json(folder, "config.json", eos_token_id=list(range(3, 120)))
    edit_json(folder, "generation_config.json", eos_token_id=None)


def truncated(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(32)
    tokenizer.save(str(folder / "tokenizer.json"))


def padded(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=400, pad_id=0, pad_token="<|endoftext|>")
    tokenizer.save(str(folder / "tokenizer.json"))


def added_tokens(folder: Path) -> None:
    """Tokens that only tokenizer_config.json knows."""
    extra = {
        str(number): {
            "content": text,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for number, text in ((259, "Hello"), (260, "<|tool|>"))
    }
    edit_json(folder, "tokenizer_config.json", added_tokens_decoder=extra)


def special_objects(folder: Path) -> None:
    edit_json(folder, "tokenizer_config.json", bos_token=None, eos_token=None)
    mark = {"content": "<|im_end|>", "lstrip": False, "rstrip": False, "single_word": False}
    edit_json(folder, "special_tokens_map.json", eos_token=mark | {"normalized": False})
    template(folder, "{{ bos_token }}{{ eos_token }}" + CHAT_TEMPLATE)


def class_of_its_own(folder: Path) -> None:
    """A class of transformers that puts parts of its own in place of the file's."""
    edit_json(folder, "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")


def template(folder: Path, text: str) -> None:
    (folder / "chat_template.jinja").write_text(text, encoding="utf-8")


def umlauts(folder: Path) -> None:
    template(
        folder, "<|im_start|>system\nAntworte höflich – auf Deutsch.<|im_end|>\n" + CHAT_TEMPLATE
    )


def template_in_config(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    several = [{"name": "default", "template": "d" + CHAT_TEMPLATE}]
    edit_json(folder, "tokenizer_config.json", chat_template=several)


def system_and_tools(folder: Path) -> None:
    template(
        folder,
        "{%- set ns = namespace(system='', turns=0) -%}\n"
        "{%- for m in messages if m.role == 'system' -%}\n"
        "    {%- set ns.system = ns.system ~ m.content | trim -%}\n"
        "{%- endfor -%}\n"
        "{{ bos_token }}{{ {'system': ns.system, 'tools': tools} | tojson }}\n"
        "{%- for m in messages if m.role != 'system' %}\n"
        "    {%- set ns.turns = ns.turns + 1 %}\n"
        "    {%- if m.role == 'tool' %}<tool>{{ m.content }}</tool>{% continue %}{% endif %}\n"
        "    {%- generation %}{{ dict(role=m.role, n=ns.turns) }}: {{ m.content }}"
        "{% endgeneration %}{{ eos_token }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}assistant:{% endif %}",
    )


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR = {"rope_type": "linear", "factor": 2.0}
QWEN2_WINDOWS = {
    "kind": "qwen2",
    "use_sliding_window": True,
    "max_window_layers": 1,
    "sliding_window": 7,
}


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        (equal_head, {"tie_word_embeddings": True}),
        (other_head, {"tie_word_embeddings": True}),
        (other_head, {"kind": "gemma2", "tie_word_embeddings": True}),
        (head_only, {"tie_word_embeddings": True}),
        (without_prefix, {"tie_word_embeddings": True}),
        (rotary_tables, {}),
        (leftovers, {}),
        (several_ends, {}),
        (ends_in_config, {}),
        (no_end, {}),
        (truncated, {}),
        (padded, {}),
        (added_tokens, {}),
        (special_objects, {}),
        (class_of_its_own, {}),
        (umlauts, {}),
        (template_in_config, {}),
        (system_and_tools, {}),
        (None, {"attention_bias": True, "mlp_bias": True, "vocab_size": 277}),
        (None, {"num_key_value_heads": 1, "head_dim": 12, "vocab_size": 301}),
        (None, {"rope_parameters": {**YARN, "rope_theta": 1e4}}),
        (None, {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}}),
        (None, {"rope_parameters": {**LINEAR, "rope_theta": 1e4}}),
        (None, QWEN2_WINDOWS),
        (None, {"kind": "phi3", "partial_rotary_factor": 0.5}),
        (None, {"shard": "20KB"}),
        (None, {"kind": "mixtral", "shard": "20KB"}),
        (None, {"dtype": torch.bfloat16}),
        (None, {"dtype": torch.float16}),
        (dtype_not_said, {"dtype": torch.bfloat16}),
    ],
)  # fmt: skip
def test_an_oddity_changes_nothing(
    tmp_path: Path, change: Callable[[Path], None] | None, settings: dict[str, object]
) -> None:
    folder = save_model(tmp_path / "odd", **settings)  # type: ignore[arg-type]
    if change is not None:
        change(folder)
    same(folder, tmp_path / "store")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_dtype_that_was_asked_for_is_what_transformers_makes_of_it(
    tmp_path: Path, dtype: str
) -> None:
    prepared = same(save_model(tmp_path / "llama"), tmp_path / "store", dtype)
    assert prepared.manifest.dtype == dtype


def test_a_head_that_differs_is_kept(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "llama", tie_word_embeddings=True)
    tied = prepare(str(folder), tmp_path / "store")
    other_head(folder)
    untied = prepare(str(folder), tmp_path / "store")
    assert (tied.manifest.tied, untied.manifest.tied) == (True, False)
    assert untied.layer_table().total_bytes == tied.layer_table().total_bytes + 300 * 32 * 4
    assert json.loads(untied.read("config.json"))["tie_word_embeddings"] is False
