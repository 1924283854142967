"""Refusing new work while the disk takes nothing.

Whatever is accepted is on disk before anybody is told, so with a disk in trouble nothing can be
accepted. Whoever takes in new work asks here first and refuses at once, instead of letting the
asker wait for an answer that cannot come.
"""

from __future__ import annotations

from node.errors import ResourceError
from node.journal import AsyncJournal
from p2p.errors import Refused

NO_STORAGE = "no_storage"
"""The code of the refusal, for peers and over HTTP."""


class NoStorage(ResourceError):
    """This node's disk takes nothing now."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"nothing can be stored now: {reason}",
            "make room or mend the disk; the node goes on by itself",
        )


def check_storage(journal: AsyncJournal) -> None:
    """Raise `NoStorage` while the disk is in trouble; for orders of the operator."""
    if reason := journal.trouble:
        raise NoStorage(reason)


def require_storage(journal: AsyncJournal) -> None:
    """Raise `Refused` with `NO_STORAGE` while the disk is in trouble; for requests of peers."""
    if reason := journal.trouble:
        raise Refused(NO_STORAGE, f"I can store nothing now: {reason}")
