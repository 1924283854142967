"""`model list` and `model verify` on a store with one small model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.models.manifest import MANIFEST, FileEntry, Manifest, hash_file, identity


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store holding "tiny": a well-formed prepared model whose weights are a few bytes."""
    building = tmp_path / "building"
    building.mkdir()
    (building / "config.json").write_text("{}")
    (building / "model-00001.safetensors").write_bytes(b"\x07" * 3000)
    files = tuple(
        FileEntry(name=path.name, size=path.stat().st_size, sha256=hash_file(path))
        for path in sorted(building.iterdir())
    )
    manifest = Manifest(
        model_id=identity(files),
        name="tiny",
        source="test",
        architecture="LlamaForCausalLM",
        dtype="float32",
        layers=2,
        hidden_size=8,
        vocab_size=16,
        max_positions=64,
        layer_bytes=(100, 100),
        kv_bytes=(64, 64),
        embed_bytes=512,
        head_bytes=512,
        tied=True,
        files=files,
    )
    (building / MANIFEST).write_text(manifest.model_dump_json())
    building.rename(tmp_path / f"tiny-{manifest.model_id[:12]}")
    return tmp_path


def test_models_are_listed(cli: Any, store: Path) -> None:
    shown = cli("model", "list", "--model-store", str(store))
    assert shown.code == 0
    assert "tiny" in shown.out
    assert "2.9 KiB" in shown.out
    (model,) = json.loads(cli("model", "list", "--model-store", str(store), "--json").out)
    assert (model["name"], model["layers"], model["bytes"]) == ("tiny", 2, 3002)


def test_an_empty_store_is_said_to_be_empty(cli: Any, tmp_path: Path) -> None:
    shown = cli("model", "list", "--model-store", str(tmp_path / "none"))
    assert shown.code == 0
    assert "none" in shown.out


def test_verify_tells_a_sound_model_from_a_changed_one(cli: Any, store: Path) -> None:
    arguments = ("model", "verify", "tiny", "--model-store", str(store))
    shown = cli(*arguments)
    assert shown.code == 0
    assert shown.out.startswith("ok ")
    (weights,) = store.glob("tiny-*/model-00001.safetensors")
    weights.write_bytes(b"\x07" * 2999 + b"\x08")
    shown = cli(*arguments)
    assert shown.code == 3
    assert shown.err.splitlines()[-1].startswith(f"error: {weights}")


def test_an_unknown_model_is_one_line(cli: Any, store: Path) -> None:
    shown = cli("model", "verify", "gpt-99", "--model-store", str(store))
    assert shown.code == 3
    assert "gpt-99" in shown.err
    assert len(shown.err.splitlines()) == 1


def test_getting_what_cannot_be_had_is_one_line(cli: Any, store: Path) -> None:
    shown = cli("model", "get", str(store / "none.gguf"), "--model-store", str(store))
    assert shown.code != 0
    assert shown.err.startswith("error: ")
    assert len(shown.err.splitlines()) == 1
