"""Whose node a data folder is, with the provider's key here, encrypted, or elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chain.errors import Reverted
from node.cli.provider.refusals import explain
from node.config.datadir import DataDir
from node.config.keystore import generate_key, save_key
from node.errors import EXIT_INPUT, InputError
from node.onchain.registration import find_provider, provider_address

ELSEWHERE = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"


def test_nobody_is_named(tmp_path: Path) -> None:
    assert find_provider(DataDir(tmp_path), None, {}) is None


def test_the_key_is_elsewhere(tmp_path: Path) -> None:
    found = find_provider(DataDir(tmp_path), ELSEWHERE, {})
    assert found is not None
    assert (found.address, found.key) == (ELSEWHERE, None)


def test_an_encrypted_key_is_opened_only_with_the_passphrase(tmp_path: Path) -> None:
    key = generate_key()
    save_key(tmp_path / "provider.key", key, "words", scrypt_rounds=2**10)
    closed = find_provider(DataDir(tmp_path), None, {})
    assert closed is not None
    assert (closed.address, closed.key) == (key.address, None)
    opened = find_provider(DataDir(tmp_path), key.address, {"PRIME_NODE_PASSPHRASE": "words"})
    assert opened is not None
    assert opened.key == key
    assert key.secret.hex() not in repr(opened)


def test_key_and_setting_must_agree(tmp_path: Path) -> None:
    save_key(tmp_path / "provider.key", generate_key())
    with pytest.raises(InputError, match=re.escape(f"setting is {ELSEWHERE}")):
        provider_address(DataDir(tmp_path), ELSEWHERE)


def test_a_lock_is_seen_without_being_taken(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "d")
    assert data.holder() is None
    assert not data.path.exists()
    with data.lock():
        assert data.holder() is not None
    assert data.holder() is None


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("BelowMinimumStake", (10**18, 2 * 10**18), "nodes need 2 PRIME"),
        ("StillUnbonding", (1_700_000_000,), "free at 2023-11-14 22:13:20 UTC"),
        ("StakeBelowMinimum", (10**18, 3 * 10**18), "prime-node stake add 2"),
        ("NodeOwnedBy", ("0xaa", "0xbb"), "belongs to provider 0xbb for good"),
    ],
)
def test_refusals_of_the_contracts_say_what_to_do(
    name: str, args: tuple[object, ...], said: str
) -> None:
    shown = explain(Reverted(name, args, b""))
    assert said in str(shown)
    assert shown.exit_code == EXIT_INPUT


@pytest.mark.parametrize(("name", "args"), [("Unheard", (1,)), ("StillUnbonding", ("x", 2))])
def test_other_refusals_are_shown_as_they_are(name: str, args: tuple[object, ...]) -> None:
    assert name in str(explain(Reverted(name, args, b"")))
