"""What people type: paths with a `~`, and files from whatever editor they have."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from node.errors import InputError


def expand(path: Path) -> Path:
    """`path` as an absolute one, `~` being the user's home. Raises `InputError` where a user that
    has none, as in many containers, is asked for it."""
    try:
        return path.expanduser().absolute()
    except RuntimeError as exc:
        raise InputError(
            f"{path}: this user has no home folder", "set HOME, or give the whole path"
        ) from exc


def decode_text(data: bytes, where: str | os.PathLike[str]) -> str:
    """The text of a file that a person wrote, without the mark that some editors put before it.

    Raises `InputError` naming the line that is not UTF-8.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{where}: UTF-16 text", "save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise InputError(f"{where}: line {line} is not UTF-8 text", "save it as UTF-8") from exc
