"""Keys at rest: a 0600 file with 64 hex digits, or an encrypted Web3 v3 JSON keystore.

A node's hot key is its libp2p identity and its EVM address at once; a provider's cold key stakes
and registers it. Both are secp256k1. The passphrase of an encrypted keystore comes from
PRIME_NODE_PASSPHRASE or from a prompt, never from a flag. Key files that others may read are
refused, as ssh does. A keystore's scrypt and PBKDF2 costs are bounded before any work is done for
them.

`NodeKey` shows its address, never the key, however it is printed.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from node.config.files import SYSTEM, System, write_new
from node.errors import InputError, system_error
from proofs.encoding.jsontext import parse_json

MAX_FILE = 64 * 1024
MAX_SCRYPT_BYTES = 2**30
MAX_SCRYPT_LANES = 4
MAX_PBKDF2_ROUNDS = 10_000_000
SCRYPT_ROUNDS = 2**18
PASSPHRASE_VARIABLE = "PRIME_NODE_PASSPHRASE"
IMPORT_VARIABLE = "PRIME_NODE_IMPORT_PASSPHRASE"
"""The passphrase of a keystore that `wallet import` reads, where it is not the new one."""
_KDF_PARAMETERS = {
    "scrypt": ("n", "r", "p", "dklen", "salt"),
    "pbkdf2": ("c", "prf", "dklen", "salt"),
}
_ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
"""Number of points of secp256k1 (SEC 2); a private key lies in [1, order)."""

Ask = Callable[[str], str]


class KeyFileError(InputError):
    """A key file that cannot be used; the message names the file, never its content."""


@dataclass(frozen=True)
class NodeKey:
    """A secp256k1 private key: 32 bytes, big-endian."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != 32 or not 0 < int.from_bytes(self.secret) < _ORDER:
            raise KeyFileError("not a secp256k1 private key (32 bytes, not zero, below the order)")

    @cached_property
    def address(self) -> str:
        """The EVM address, EIP-55 checksummed."""
        from proofs.encoding.signing import address_of

        return address_of(self.secret)

    def __repr__(self) -> str:
        return f"NodeKey({self.address})"


def generate_key() -> NodeKey:
    """A new key from the system's random source."""
    while True:
        secret = secrets.token_bytes(32)
        if 0 < int.from_bytes(secret) < _ORDER:
            return NodeKey(secret)


def parse_key(text: str) -> NodeKey:
    """A private key of 64 hex digits, 0x or not. Raises `KeyFileError`, which never shows it."""
    secret = _digits(text)
    if secret is None:
        raise KeyFileError("not a private key", "64 hex digits")
    return NodeKey(secret)


def _digits(text: str) -> bytes | None:
    digits = text.strip().removeprefix("0x")
    if len(digits) != 64 or not set(digits) <= set(string.hexdigits):
        return None
    return bytes.fromhex(digits)


@dataclass(frozen=True)
class KeyFile:
    """What a key file says without its passphrase. `address` is None where it does not say."""

    path: Path
    address: str | None
    encrypted: bool


def look_at_key(path: Path) -> KeyFile:
    """The file's address and whether it is encrypted; nothing is decrypted. Raises `KeyFileError`.

    The address of an encrypted file is what the file claims; `load_key` holds it to the key.
    """
    text = _read(path)
    if not _is_keystore(text):
        return KeyFile(path, _plain(path, text).address, encrypted=False)
    return KeyFile(path, _claimed_address(text), encrypted=True)


def save_key(
    path: Path,
    key: NodeKey,
    passphrase: str = "",
    scrypt_rounds: int = SCRYPT_ROUNDS,
    system: System = SYSTEM,
) -> None:
    """Write a new key file, mode 0600; encrypted where there is a passphrase.

    Never overwrites. Raises `KeyFileError`.
    """
    if passphrase:
        from eth_keyfile import keyfile

        keystore = keyfile.create_keyfile_json(
            key.secret, passphrase.encode(), kdf="scrypt", iterations=scrypt_rounds
        )
        text = json.dumps(keystore) + "\n"
    else:
        text = key.secret.hex() + "\n"
    try:
        write_new(path, text.encode(), system=system)
    except FileExistsError as exc:
        raise KeyFileError(f"{path}: already there", "a key is never overwritten") from exc
    except OSError as exc:
        raise system_error(path, "cannot write", exc, wrong=KeyFileError) from exc


def load_key(
    path: Path,
    *,
    ask: Ask | None = None,
    environment: Mapping[str, str] | None = None,
    variable: str = PASSPHRASE_VARIABLE,
) -> NodeKey:
    """Read a key file of either format. Raises `KeyFileError`.

    `ask(prompt)` is called for the passphrase where the environment's `variable` has none; None
    never asks.
    """
    text = _read(path)
    if not _is_keystore(text):
        return _plain(path, text)
    variables = os.environ if environment is None else environment
    key = _key(path, _decrypt(path, text, ask, variables, variable))
    if _claimed_address(text) not in (None, key.address):
        raise KeyFileError(f"{path}: names another address than its key's, {key.address}")
    return key


def _is_keystore(text: str) -> bool:
    return text.lstrip().startswith("{")


def _plain(path: Path, text: str) -> NodeKey:
    secret = _digits(text)
    if secret is None:
        raise KeyFileError(f"{path}: not a key file", "64 hex digits or a Web3 v3 keystore")
    return _key(path, secret)


def _key(path: Path, secret: bytes) -> NodeKey:
    try:
        return NodeKey(secret)
    except KeyFileError as exc:
        raise KeyFileError(f"{path}: {exc.message}") from None


def _claimed_address(text: str) -> str | None:
    """The address that a keystore names, EIP-55; None where it names none."""
    from proofs.encoding.signing import checksum_address

    try:
        named = parse_json(text.encode()).get("address")
        raw = bytes.fromhex(named.removeprefix("0x"))
        return checksum_address(raw) if len(raw) == 20 else None
    except (ValueError, AttributeError, TypeError):
        return None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise KeyFileError(f"{path}: not a regular file")
            if info.st_mode & 0o077:
                raise KeyFileError(f"{path}: others may read this key", f"chmod 600 {path}")
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError as exc:
        raise KeyFileError(f"{path}: no such key file", "prime-node init makes one") from exc
    except OSError as exc:
        raise system_error(path, "cannot read", exc, wrong=KeyFileError) from exc
    if not data.strip(b"\0 \r\n"):
        raise KeyFileError(
            f"{path}: not a key file: it is empty",
            "put your copy there; without one, delete the file, and a new key (with a new "
            "address) is made",
        )
    if len(data) > MAX_FILE:
        raise KeyFileError(f"{path}: not a key file: larger than {MAX_FILE} bytes")
    return data.decode("utf-8-sig", "replace")


def _decrypt(
    path: Path, text: str, ask: Ask | None, environment: Mapping[str, str], variable: str
) -> bytes:
    from eth_keyfile import keyfile

    keystore = _parse_keystore(path, text)
    passphrase = environment.get(variable)
    if passphrase is None:
        if ask is None:
            raise KeyFileError(f"{path}: encrypted", f"set {variable}")
        passphrase = ask(f"Passphrase of {path}")
    try:
        return bytes(keyfile.decode_keyfile_json(keystore, passphrase.encode()))
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as exc:
        if "MAC" in str(exc):
            raise KeyFileError(f"{path}: wrong passphrase") from None
        raise KeyFileError(f"{path}: damaged keystore") from exc


def _parse_keystore(path: Path, text: str) -> dict[str, Any]:
    """The parts of a keystore that decryption needs, with its cost within bounds.

    Only named parts are kept: the decoder folds the case of keys, so a second "Version" or "N"
    could otherwise take the place of the one that was checked.
    """
    try:
        keystore = parse_json(text.encode())
        crypto = keystore["crypto"] if "crypto" in keystore else keystore["Crypto"]
        kdf, given = crypto["kdf"], crypto["kdfparams"]
        names = _KDF_PARAMETERS.get(kdf) if isinstance(kdf, str) else None
        if names is None:
            raise KeyFileError(f"{path}: unknown key derivation {str(kdf)[:32]!r}")
        parameters = {name: given[name] for name in names}
        if keystore["version"] != 3 or not _affordable(kdf, parameters):
            raise KeyFileError(f"{path}: a keystore with parameters that cannot be right")
        kept = {name: crypto[name] for name in ("cipher", "ciphertext", "mac")}
        cipher = {"iv": crypto["cipherparams"]["iv"]}
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise KeyFileError(f"{path}: not a Web3 v3 keystore") from exc
    kept |= {"kdf": kdf, "kdfparams": parameters, "cipherparams": cipher}
    return {"version": 3, "crypto": kept}


def _affordable(kdf: str, parameters: Mapping[str, Any]) -> bool:
    """Whether the cost is one that a person would choose: at most about 1 GiB or some seconds."""
    costs = [parameters[name] for name in ("n", "r", "p", "c", "dklen") if name in parameters]
    if not all(type(cost) is int and cost > 0 for cost in costs) or parameters["dklen"] != 32:
        return False
    if kdf == "pbkdf2":
        return bool(parameters["c"] <= MAX_PBKDF2_ROUNDS)
    memory = 128 * parameters["n"] * parameters["r"]
    return bool(memory <= MAX_SCRYPT_BYTES and parameters["p"] <= MAX_SCRYPT_LANES)
