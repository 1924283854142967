"""Asking a person: for passphrases and private keys without echo, and for a yes before money moves.

Questions go to stderr. Where there is no terminal nobody is asked: the error then names the
variable or flag that answers.
"""

from __future__ import annotations

import os
import sys

import typer

from node.config.keystore import IMPORT_VARIABLE, PASSPHRASE_VARIABLE, NodeKey, parse_key
from node.console.clean import clean
from node.errors import InputError, NodeError


def passphrase(text: str) -> str:
    """For `load_key`, which asks only where PRIME_NODE_PASSPHRASE is not set."""
    return _hidden(text, PASSPHRASE_VARIABLE)


def import_passphrase(text: str) -> str:
    """The passphrase of a keystore from elsewhere."""
    return _hidden(text, IMPORT_VARIABLE)


def new_passphrase() -> str:
    """PRIME_NODE_PASSPHRASE, or what a person typed twice. Raises `InputError` for an empty one."""
    chosen = os.environ.get(PASSPHRASE_VARIABLE)
    if chosen is None:
        chosen = _hidden("New passphrase", PASSPHRASE_VARIABLE, twice=True)
    if not chosen:
        raise InputError("an empty passphrase protects nothing", "choose one, or --no-encrypt")
    return chosen


def private_key() -> NodeKey:
    """From a hidden prompt, or from stdin where that is not a terminal. Raises `KeyFileError`."""
    if sys.stdin.isatty():
        return parse_key(str(typer.prompt("Private key (hidden)", hide_input=True, err=True)))
    return parse_key(sys.stdin.readline(256))


def confirm(question: str, *, agreed: bool) -> None:
    """Return only after a yes. Raises `NodeError` after a no."""
    if agreed:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{question} there is nobody here to ask", "add --yes")
    if not typer.confirm(clean(question), err=True):
        raise NodeError("nothing was sent")


def _hidden(text: str, variable: str, *, twice: bool = False) -> str:
    if not sys.stdin.isatty():
        raise InputError(f"{text}: there is nobody here to ask", f"set {variable}")
    return str(typer.prompt(clean(text), hide_input=True, confirmation_prompt=twice, err=True))
