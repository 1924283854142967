"""Checkpoints that are refused: the file, what is wrong in it, and what to do, in one line. Nothing
of them stays in the store."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from pipeline.models.errors import InvalidModel, ModelError, UnsupportedModel
from pipeline.models.preparing.gguf_source import gguf_tensors
from pipeline.models.skeleton import build_skeleton
from pipeline.models.slice import load_slice
from pipeline.models.store import list_models, open_model, prepare
from pipeline.models.tokenizer import ChatTokenizer
from tests.pipeline.model_zoo import edit_json, edit_weights, save_model

DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Checkpoints as `save_model` makes them, each made once."""
    root = tmp_path_factory.mktemp("saved")
    made: dict[str, Path] = {}

    def get(**settings: Any) -> Path:
        key = json.dumps(settings, sort_keys=True, default=str)
        if key not in made:
            made[key] = save_model(root / str(len(made)), **settings)
        return made[key]

    return get


def refused(folder: Path, store: Path) -> str:
    with pytest.raises(ModelError) as caught:
        prepare(str(folder), store)
    assert "\n" not in str(caught.value)
    assert list_models(store) == []
    assert list(store.glob(".*.tmp-*")) == []
    return str(caught.value)


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    return lambda folder: edit_weights(folder, change)


def setting(name: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder, name, **changes)


def gone(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut_off(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def remote_code(folder: Path) -> None:
    edit_json(
        folder,
        "tokenizer_config.json",
        tokenizer_class="OwnTokenizer",
        auto_map={"AutoTokenizer": [None, "own.OwnTokenizer"]},
    )
    (folder / "own.py").write_text("raise SystemExit('this ran')")


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (weights(lambda w: w.pop(DOWN)), InvalidModel, [f"lacks {DOWN}", "fetch it again"]),
        (weights(lambda w: w.pop("lm_head.weight")), InvalidModel, ["lacks lm_head.weight"]),
        (
            weights(lambda w: w.__setitem__("model.layers.9.mlp.up_proj.weight", torch.ones(2))),
            InvalidModel,
            ["does not know: model.layers.9.mlp.up_proj.weight", "config.json"],
        ),
        (
            weights(lambda w: w.__setitem__(DOWN, torch.ones(32, 47))),
            InvalidModel,
            [f"{DOWN} is [32, 47], not [32, 48]"],
        ),
        (cut_off, InvalidModel, ["model.safetensors", "fetch it again"]),
        (gone("model.safetensors"), InvalidModel, ["model.safetensors.index.json"]),
        (pickled, UnsupportedModel, ["pytorch_model.bin", "only safetensors", "save_pretrained"]),
        (text("adapter_config.json", "{}"), UnsupportedModel, ["adapter_config.json", "merge"]),
        (gone("config.json"), InvalidModel, ["no config.json"]),
        (text("config.json", "{"), InvalidModel, ["config.json", "JSON"]),
        (
            setting("config.json", transformers_weights="x.safetensors"),
            UnsupportedModel,
            ["config.json: transformers_weights names 'x.safetensors'", "rename"],
        ),
        (
            setting("config.json", model_type="falcon"),
            UnsupportedModel,
            ["config.json: model_type 'falcon' is not served", "docs/reference/models.md"],
        ),
        (
            setting("config.json", quantization_config={"quant_method": "fp8"}),
            UnsupportedModel,
            ["config.json: quantization_config", "full-precision"],
        ),
        (
            setting("config.json", dtype="float64"),
            UnsupportedModel,
            ["config.json: dtype is float64", "--dtype"],
        ),
        (gone("tokenizer.json"), UnsupportedModel, ["tokenizer.json is missing", "AutoTokenizer"]),
        (text("tokenizer.json", "{}"), InvalidModel, ["tokenizer.json"]),
        (remote_code, InvalidModel, ["tokenizer_config.json"]),
        (text("chat_template.jinja", "{% for %}"), InvalidModel, ["chat template is broken"]),
        (
            text("chat_template.jinja", "{% set n = namespace(_x=1) %}{{ messages }}"),
            InvalidModel,
            ["does what it may not"],
        ),
        (
            setting("generation_config.json", repetition_penalty=1.1, num_beams=4),
            UnsupportedModel,
            ["generation_config.json: num_beams, repetition_penalty", "--without num_beams"],
        ),
        (
            setting("generation_config.json", eos_token_id="</s>"),
            InvalidModel,
            ["generation_config.json: eos_token_id is '</s>'", "correct it"],
        ),
        (
            setting("generation_config.json", do_sample=True, temperature=99.0),
            InvalidModel,
            ["generation_config.json: temperature is 99.0", "correct it"],
        ),
    ],
)
def test_what_is_no_whole_checkpoint_is_refused(
    saved: Callable[..., Path],
    tmp_path: Path,
    change: Callable[[Path], object],
    error: type[ModelError],
    says: list[str],
) -> None:
    folder = tmp_path / "ckpt"
    shutil.copytree(saved(), folder)
    change(folder)
    with pytest.raises(error):
        prepare(str(folder), tmp_path / "store")
    message = refused(folder, tmp_path / "store")
    assert [part for part in says if part not in message] == []


def test_a_setting_that_nothing_here_does_can_be_left_out(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    """If that is asked for by name; the model is another one than with the setting changed."""
    folder, store = tmp_path / "ckpt", tmp_path / "store"
    shutil.copytree(saved(), folder)
    setting("generation_config.json", repetition_penalty=1.1)(folder)
    with pytest.raises(UnsupportedModel, match="needless"):
        prepare(str(folder), store, without=["needless"])
    with pytest.raises(UnsupportedModel, match="eos_token_id: not among"):
        prepare(str(folder), store, without=["eos_token_id"])
    left_out = prepare(str(folder), store, without=["repetition_penalty"])
    assert "repetition_penalty" not in (left_out.path / "generation_config.json").read_text()
    assert prepare(str(folder), store, without=["repetition_penalty"]).path == left_out.path
    with pytest.raises(UnsupportedModel, match="--without repetition_penalty"):
        prepare(str(folder), store)


def test_a_tensor_that_is_missing_among_converted_ones_is_named(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    """Experts are stored one by one and put together by transformers, whose report is believed."""
    folder = tmp_path / "ckpt"
    shutil.copytree(saved(kind="mixtral"), folder)
    edit_weights(folder, lambda w: w.pop("model.layers.1.self_attn.q_proj.weight"))
    assert "lacks model.layers.1.self_attn.q_proj.weight" in refused(folder, tmp_path / "store")


def test_shards_are_those_of_the_index(saved: Callable[..., Path], tmp_path: Path) -> None:
    folder, store = tmp_path / "ckpt", tmp_path / "store"
    shutil.copytree(saved(shard="60KB"), folder)
    first, second = sorted(folder.glob("*.safetensors"))[:2]
    tensors = load_file(first)
    name = next(iter(tensors))
    save_file(load_file(second) | {name: tensors[name]}, second, metadata={"format": "pt"})
    assert f"{name} is in {first} and in {second.name}" in refused(folder, store)
    second.unlink()
    message = refused(folder, store)
    assert f"shards that model.safetensors.index.json names, the first is {second.name}" in message
    text("model.safetensors.index.json", "{}")(folder)
    assert "model.safetensors.index.json: weight_map" in refused(folder, store)


def test_a_gguf_tensor_that_nothing_reads_is_named(tmp_path: Path) -> None:
    """Biases of a Llama, say, or factors of a longer context."""

    def names(**tensors: list[float]) -> list[str]:
        file = tmp_path / "x.gguf"
        writer = GGUFWriter(file, "llama")
        for name, values in tensors.items():
            writer.add_tensor(name.replace("__", "."), np.array(values, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return [name for name, _ in gguf_tensors(file, skeleton.causal)]

    config = LlamaConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    skeleton = build_skeleton(config, torch.float32)
    known = {"output_norm__weight": [1.0] * 8}
    assert names(**known, rope_freqs__weight=[1.0] * 4) == ["model.norm.weight"]
    for other in ("rope_freqs__weight", "blk__0__attn_q__bias"):
        with pytest.raises(UnsupportedModel, match=other.replace("__", ".")):
            names(**known, **{other: [8.0] * 8})


@contextmanager
def another_user(*paths: Path) -> Iterator[None]:
    """Run as somebody who may not read `paths`, whose modes say that only their owner may."""
    if os.geteuid() != 0:
        for path in paths:
            path.chmod(0)
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder_for_all() -> Iterator[Path]:
    """A folder that other users reach, unlike those of pytest."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def test_what_may_not_be_read_is_not_called_missing(
    saved: Callable[..., Path], open_folder_for_all: Path
) -> None:
    source, store = open_folder_for_all / "ckpt", open_folder_for_all / "store"
    own = open_folder_for_all / "own"
    own.mkdir()
    own.chmod(0o777)
    shutil.copytree(saved(), source)
    model = prepare(str(source), store)
    modes = {path.name: path.stat().st_mode & 0o777 for path in model.path.iterdir()}
    assert set(modes.values()) == {0o644}
    assert model.path.stat().st_mode & 0o777 == 0o755
    load_slice(model, 0, 1), ChatTokenizer(model)  # whatever they import is imported

    shard = next(model.path.glob("*.safetensors"))
    for path in (shard, model.path / "tokenizer.json", source / "model.safetensors"):
        path.chmod(0o600)
    with another_user(shard, model.path / "tokenizer.json", source / "model.safetensors"):
        for use in (
            lambda: load_slice(model, 0, 1),
            lambda: ChatTokenizer(model),
            lambda: prepare(str(source), own),
        ):
            with pytest.raises(InvalidModel, match=r"permission denied; run chmod -R a\+rX"):
                use()
    store.chmod(0o700)
    with another_user(store), pytest.raises(InvalidModel, match="permission denied"):
        open_model(store, "ckpt")
    store.chmod(0o755)
    model.path.chmod(0o700)
    with another_user(model.path), pytest.raises(InvalidModel, match="permission denied"):
        open_model(store, "ckpt")
