"""`init` and `key show`."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from node.config.keystore import load_key
from node.config.schema import load_config


def test_init_makes_all_that_run_needs(cli: Any, tmp_path: Path) -> None:
    folder = tmp_path / "node"
    network = tmp_path / "network.toml"
    made = cli(
        "init",
        "--data-dir",
        str(folder),
        "--role",
        "worker",
        "--role",
        "validator",
        "--network-file",
        str(network),
        "--with-provider-key",
        "--json",
    )
    assert made.code == 0
    result = json.loads(made.out)
    assert result["peer_id"].startswith("16Uiu2HA")
    assert result["address"] == load_key(folder / "node.key").address
    assert result["provider"] == load_key(folder / "provider.key").address
    assert len(result["made"]) == 3
    assert stat.S_IMODE((folder / "api-token").stat().st_mode) == 0o600
    config = load_config({"data_dir": folder}, environment={})
    assert config.roles == ("worker", "validator")
    assert config.network_file == network


def test_init_again_changes_nothing(cli: Any, tmp_path: Path) -> None:
    first = cli("init", "--data-dir", str(tmp_path), "--json")
    (tmp_path / "config.toml").write_text("http_port = 5\n")
    again = cli("init", "--data-dir", str(tmp_path), "--json", "--role", "orchestrator")
    assert again.code == 0
    before, after = json.loads(first.out), json.loads(again.out)
    assert after["made"] == []
    assert after["address"] == before["address"]
    assert (tmp_path / "config.toml").read_text() == "http_port = 5\n"
    assert "nothing: all of it was there" in cli("init", "--data-dir", str(tmp_path)).out


def test_a_bad_role_makes_nothing(cli: Any, tmp_path: Path) -> None:
    shown = cli("init", "--data-dir", str(tmp_path / "n"), "--role", "cook")
    assert shown.code == 3
    assert not (tmp_path / "n").exists()


def test_key_show_names_the_key_and_never_shows_it(cli: Any, tmp_path: Path) -> None:
    cli("init", "--data-dir", str(tmp_path))
    secret = (tmp_path / "node.key").read_text().strip()
    shown = cli("key", "show", "--data-dir", str(tmp_path))
    assert shown.code == 0
    assert load_key(tmp_path / "node.key").address in shown.out
    assert secret not in shown.out
    as_json = json.loads(cli("key", "show", "--data-dir", str(tmp_path), "--json").out)
    assert as_json["provider"] is None
    assert as_json["peer_id"] in shown.out


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "prime-node init makes one"), ("nonsense", "not a key file")],
)
def test_a_wrong_key_file_is_one_line(
    cli: Any, tmp_path: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "node.key").write_text(content)
        (tmp_path / "node.key").chmod(0o600)
    shown = cli("key", "show", "--data-dir", str(tmp_path))
    assert shown.code == 3
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1


def test_encrypted_keys_are_asked_for(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIME_NODE_PASSPHRASE", "open sesame")
    assert cli("init", "--data-dir", str(tmp_path), "--encrypt").code == 0
    assert json.loads((tmp_path / "node.key").read_text())["version"] == 3
    assert cli("key", "show", "--data-dir", str(tmp_path)).code == 0
    monkeypatch.setenv("PRIME_NODE_PASSPHRASE", "wrong")
    shown = cli("key", "show", "--data-dir", str(tmp_path))
    assert shown.code == 3
    assert "wrong passphrase" in shown.err
