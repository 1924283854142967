"""`wallet`: making, bringing, showing and exporting keys."""

from __future__ import annotations

import io
import json
import os
import pty
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from node.config.keystore import generate_key, load_key, look_at_key, save_key
from node.config.schema import load_config
from tests.paths import ROOT

SECRET = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
ADDRESS = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"


def typed_into(folder: Path, *answers: bytes) -> str:
    """`wallet new` on a terminal where a person types `answers`; what the terminal showed."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        command = [sys.executable, "-m", "node", "wallet", "new", "--data-dir", str(folder)]
        os.execv(command[0], command)
    shown = b""
    left = list(answers)
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the child has closed its end
            break
        if left and shown.endswith(b": "):  # the space comes once echoing is off
            os.write(terminal, left.pop(0) + b"\n")
            shown += b"\n"
    os.waitpid(child, 0)
    os.close(terminal)
    return shown.decode()


def test_the_passphrase_is_asked_twice_and_never_shown(tmp_path: Path, cli: Any) -> None:
    shown = typed_into(tmp_path, b"open sesame", b"open sesame")
    assert "sesame" not in shown
    assert shown.count("passphrase") + shown.count("confirmation") >= 2
    seen = look_at_key(tmp_path / "provider.key")
    assert seen.encrypted
    assert seen.address is not None
    assert seen.address in shown
    assert stat.S_IMODE((tmp_path / "provider.key").stat().st_mode) == 0o600
    key = load_key(tmp_path / "provider.key", ask=lambda _: "open sesame", environment={})
    assert key.address == seen.address


def test_new_keys_are_never_overwritten(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIME_NODE_PASSPHRASE", "open sesame")
    network = tmp_path / "network.toml"
    made = cli("wallet", "new", "--data-dir", str(tmp_path), "--network-file", str(network))
    assert made.code == 0, made.err
    assert "(encrypted)" in made.out
    assert load_config({"data_dir": tmp_path}, environment={}).network_file == network
    before = (tmp_path / "provider.key").read_bytes()
    again = cli("wallet", "new", "--data-dir", str(tmp_path))
    assert again.code == 3
    assert "a key is never overwritten" in again.err
    assert (tmp_path / "provider.key").read_bytes() == before
    hot = json.loads(cli("wallet", "new", "--node", "--data-dir", str(tmp_path), "--json").out)
    assert (hot["key"], hot["encrypted"]) == ("node", False)


@pytest.mark.parametrize("passphrase", [None, ""])
def test_without_a_passphrase_nothing_is_made(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str | None
) -> None:
    if passphrase is not None:
        monkeypatch.setenv("PRIME_NODE_PASSPHRASE", passphrase)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    shown = cli("wallet", "new", "--data-dir", str(tmp_path / "p"))
    assert shown.code == 3
    assert len(shown.err.splitlines()) == 1
    assert not (tmp_path / "p").exists()


def test_a_private_key_is_read_from_stdin(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"0x{SECRET}\n"))
    shown = cli("wallet", "import", "--no-encrypt", "--data-dir", str(tmp_path), "--json")
    assert json.loads(shown.out)["address"] == ADDRESS
    assert SECRET not in shown.out + shown.err
    assert load_key(tmp_path / "provider.key").address == ADDRESS


@pytest.mark.parametrize("text", ["", "hello", SECRET[:-1], "0" * 64, "f" * 64, SECRET + "00"])
def test_a_wrong_private_key_is_refused_without_repeating_it(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text + "\n"))
    shown = cli("--debug", "wallet", "import", "--no-encrypt", "--data-dir", str(tmp_path))
    assert shown.code == 3
    assert not text or text not in shown.err
    assert not (tmp_path / "provider.key").exists()


def test_a_keystore_is_brought_under_the_users_own_passphrase(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = generate_key()
    save_key(tmp_path / "old.json", key, "old words", scrypt_rounds=2**10)
    monkeypatch.setenv("PRIME_NODE_PASSPHRASE", "new words")
    at = ("--keystore", str(tmp_path / "old.json"), "--data-dir", str(tmp_path / "p"))
    monkeypatch.setenv("PRIME_NODE_IMPORT_PASSPHRASE", "wrong")
    assert "wrong passphrase" in cli("wallet", "import", *at).err
    monkeypatch.setenv("PRIME_NODE_IMPORT_PASSPHRASE", "old words")
    assert cli("wallet", "import", *at).code == 0
    assert load_key(tmp_path / "p" / "provider.key").address == key.address


def test_show_names_both_keys_and_exports_only_encrypted(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ("--data-dir", str(tmp_path))
    assert "wallet new makes one" in cli("wallet", "show", *at).err
    cold, hot = generate_key(), generate_key()
    save_key(tmp_path / "provider.key", cold, "words", scrypt_rounds=2**10)
    save_key(tmp_path / "node.key", hot)
    shown = json.loads(cli("wallet", "show", *at, "--json").out)  # no passphrase is needed
    assert shown["provider"]["address"] == cold.address
    assert shown["provider"]["encrypted"]
    assert shown["node"]["peer_id"].startswith("16Uiu2HA")
    monkeypatch.setenv("PRIME_NODE_PASSPHRASE", "words")
    target = tmp_path / "export.json"
    exported = cli("wallet", "show", *at, "--export-keystore", str(target))
    assert exported.code == 0, exported.err
    assert load_key(target).address == cold.address
    assert look_at_key(target).encrypted
    for secret in (cold.secret.hex(), hot.secret.hex()):
        assert secret not in exported.out + target.read_text()
    assert cli("wallet", "show", *at, "--export-keystore", str(target)).code == 3


def test_a_keystore_that_names_another_address_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "provider.key"
    save_key(path, generate_key(), "words", scrypt_rounds=2**10)
    keystore = json.loads(path.read_text())
    keystore["address"] = ADDRESS[2:].lower()
    path.write_text(json.dumps(keystore))
    assert look_at_key(path).address == ADDRESS
    with pytest.raises(Exception, match="names another address"):
        load_key(path, ask=lambda _: "words", environment={})


def test_a_provider_setting_with_a_typing_error_is_named(cli: Any, tmp_path: Path) -> None:
    wrong = ADDRESS[:-1] + "4"
    shown = cli("run", "--provider", wrong, "--data-dir", str(tmp_path))
    assert shown.code == 3
    assert "--provider: this address has a typing error" in shown.err
