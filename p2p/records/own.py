"""Which records under our own id we made, and which somebody else did who has our key.

A data folder that was copied runs twice: two nodes with one identity take each other's requests and
sign for each other. Neither meets the other, since a node does not connect to itself, but both see
the other's records. A record of ours that an earlier run of this node made is older than this run.
"""

from __future__ import annotations

from p2p.records.record import SignedRecord

REMEMBERED = 64
"""Records of ours, many times as many as live at a time."""
LASTS = 180.0
"""Seconds after the last sight of another's record that we believe in the other."""


class OwnRecords:
    """Pure; `now` is unix seconds."""

    def __init__(self) -> None:
        self._made: dict[int, bytes] = {}
        self._first: int | None = None
        self._other: SignedRecord | None = None
        self._seen_at = float("-inf")

    def made(self, signed: SignedRecord) -> None:
        """We signed this."""
        if self._first is None:
            self._first = signed.record.sequence
        self._made[signed.record.sequence] = signed.wire
        if len(self._made) > REMEMBERED:
            del self._made[next(iter(self._made))]

    def seen(self, signed: SignedRecord, now: float) -> bool:
        """A valid record under our id was shown to us; returns whether it tells of another node,
        and none was known."""
        sequence = signed.record.sequence
        if self._first is None or sequence <= self._first or sequence < next(iter(self._made)):
            return False
        if self._made.get(sequence) == signed.wire:
            return False
        news = self.trouble(now) == ""
        self._other, self._seen_at = signed, now
        return news

    def trouble(self, now: float) -> str:
        """Who else uses our identity, "" where nobody does."""
        if self._other is None or now > self._seen_at + LASTS:
            return ""
        other = self._other.record
        where = ", ".join(address.partition("/p2p/")[0] for address in other.addresses[:4])
        return (
            f"a second node runs with this node's key, {other.peer_id}, at {where or 'an unknown'}"
            f"{'' if where else ' address'}; stop one of the two, and give it a data folder and a "
            "key of its own: prime-node init"
        )
