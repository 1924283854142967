"""Key files: both formats, and every way in which one can be wrong."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.config.keystore import KeyFileError, NodeKey, generate_key, load_key, save_key

# A well-known pair: the first account of the Hardhat and Anvil development chains.
SECRET = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
# The Web3 Secret Storage Definition's own test vector (PBKDF2), passphrase "testpassword".
VECTOR: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
VECTOR_SECRET = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_address_is_the_known_one() -> None:
    assert NodeKey(SECRET).address == ADDRESS


def test_a_key_never_shows_itself() -> None:
    key = NodeKey(SECRET)
    for shown in (repr(key), str(key), f"{key}", f"{[key]}"):
        assert ADDRESS in shown
        assert SECRET.hex()[:8] not in shown
        assert repr(SECRET)[2:10] not in shown


def test_a_saved_key_is_private_and_is_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    key = generate_key()
    save_key(path, key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key(path) == key
    with pytest.raises(KeyFileError, match="already there"):
        save_key(path, generate_key())
    assert load_key(path) == key


def test_generated_keys_differ() -> None:
    assert generate_key() != generate_key()


@pytest.mark.parametrize("text", [SECRET.hex(), "0x" + SECRET.hex() + "\n", f" {SECRET.hex()} "])
def test_hex_forms(tmp_path: Path, text: str) -> None:
    assert load_key(write(tmp_path / "k", text)).secret == SECRET


def test_an_encrypted_key_wants_its_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    save_key(path, NodeKey(SECRET), "open sesame", scrypt_rounds=2)
    assert SECRET.hex() not in path.read_text()
    right = {"PRIME_NODE_PASSPHRASE": "open sesame"}
    assert load_key(path, environment=right).secret == SECRET
    assert load_key(path, ask=lambda _: "open sesame", environment={}).secret == SECRET
    with pytest.raises(KeyFileError, match="wrong passphrase"):
        load_key(path, environment={"PRIME_NODE_PASSPHRASE": "x"})
    with pytest.raises(KeyFileError, match="set PRIME_NODE_PASSPHRASE"):
        load_key(path, environment={})


def test_the_published_vector_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "k", json.dumps(VECTOR))
    environment = {"PRIME_NODE_PASSPHRASE": "testpassword"}
    assert load_key(path, environment=environment).secret.hex() == VECTOR_SECRET


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "k", SECRET.hex(), mode)
    with pytest.raises(KeyFileError, match=rf"others may read.*chmod 600 {path}"):
        load_key(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a key file"),
        (SECRET.hex()[:-1], "not a key file"),
        (SECRET.hex() + "00", "not a key file"),
        ("z" * 64, "not a key file"),
        ("é" * 64, "not a key file"),
        ("00" * 32, "not a secp256k1 private key"),
        ("ff" * 32, "not a secp256k1 private key"),
        ("x" * 70_000, "larger than"),
        ("{", "not a Web3 v3 keystore"),
        ("{}", "not a Web3 v3 keystore"),
        ('{"crypto": 5}', "not a Web3 v3 keystore"),
        ("{" * 10_000, "not a Web3 v3 keystore"),
    ],
)
def test_what_is_no_key_is_said_without_showing_it(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "k", text)
    with pytest.raises(KeyFileError, match=said) as caught:
        load_key(path)
    assert str(path) in str(caught.value)
    assert not text or text[:40] not in str(caught.value)


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no such key file"):
        load_key(tmp_path / "none")
    with pytest.raises(KeyFileError, match="Is a directory"):
        load_key(tmp_path)
    with pytest.raises(KeyFileError, match="not a regular file"):
        load_key(Path("/dev/null"))
    with pytest.raises(KeyFileError, match="cannot write"):
        save_key(tmp_path / "none" / "k", generate_key())


def changed(path: str, value: object) -> str:
    keystore = json.loads(json.dumps(VECTOR))
    inner = keystore
    *way, last = path.split(".")
    for name in way:
        inner = inner[name]
    inner[last] = value
    return json.dumps(keystore)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("crypto.kdfparams.c", 10**12, "parameters that cannot be right"),
        ("crypto.kdfparams.c", 0, "parameters that cannot be right"),
        ("crypto.kdfparams.c", "262144", "parameters that cannot be right"),
        ("crypto.kdfparams.c", True, "parameters that cannot be right"),
        ("crypto.kdfparams.dklen", 2**40, "parameters that cannot be right"),
        ("crypto.kdf", "scrypt", "not a Web3 v3 keystore"),
        ("crypto.kdf", "argon9", "unknown key derivation 'argon9'"),
        ("crypto.kdf", ["scrypt"], "unknown key derivation"),
        ("version", 4, "parameters that cannot be right"),
        ("crypto.mac", "00" * 32, "wrong passphrase"),
        ("crypto.ciphertext", "zz", "damaged keystore"),
        ("crypto.cipherparams", {}, "not a Web3 v3 keystore"),
    ],
)
def test_a_hostile_keystore_costs_nothing(
    tmp_path: Path, path: str, value: object, said: str
) -> None:
    file = write(tmp_path / "k", changed(path, value))
    with pytest.raises(KeyFileError, match=said):
        load_key(file, environment={"PRIME_NODE_PASSPHRASE": "testpassword"})


def test_a_second_spelling_does_not_take_a_checked_ones_place(tmp_path: Path) -> None:
    keystore = json.loads(json.dumps(VECTOR))
    keystore["crypto"]["kdfparams"]["C"] = 10**12
    keystore["Version"] = 4
    path = write(tmp_path / "k", json.dumps(keystore))
    environment = {"PRIME_NODE_PASSPHRASE": "testpassword"}
    assert load_key(path, environment=environment).secret.hex() == VECTOR_SECRET


def test_an_expensive_scrypt_is_refused(tmp_path: Path) -> None:
    keystore = json.loads(json.dumps(VECTOR))
    keystore["crypto"]["kdf"] = "scrypt"
    keystore["crypto"]["kdfparams"] = {"n": 2**30, "r": 8, "p": 1, "dklen": 32, "salt": "00"}
    path = write(tmp_path / "k", json.dumps(keystore))
    with pytest.raises(KeyFileError, match="cannot be right"):
        load_key(path, environment={"PRIME_NODE_PASSPHRASE": "x"})


@settings(max_examples=50)
@given(st.binary(max_size=100))
def test_any_bytes_are_a_key_or_a_key_file_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("key") / "k"
    path.touch(0o600)
    path.write_bytes(data)
    with pytest.raises(KeyFileError):
        load_key(path, environment={})
