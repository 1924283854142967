"""The table of known node records and the rules by which one gets in.

Pure: wire bytes and the time come in, a verdict comes out. Each check carries its tag where it is
made. REJECT means that no correct node would have sent or forwarded the message, so the forwarder's
score pays; IGNORE means that it may be honest (late, seen already, clocks apart, table full).

    size, form, bounds, signature   REJECT   (`open_record`)
    issued/expiry order, ttl bound  REJECT   the signer itself never makes such a record
    our own peer id                 IGNORE   an echo of ours
    not newer than what we have     IGNORE   duplicates are how gossip works
    expired                         IGNORE   slow forwarding is no fault
    issued in the future            IGNORE   clocks differ; beyond the bound it is not kept

A full table always takes a new record, and another one goes for it (`p2p.admission.places`): of the
strangers' before those of the proven and the staked, of the most crowded source, the oldest. The
source is the subnet that the peer is connected from, then the subnet that its record names, which
anybody may make up; records of peers that are not connected are one crowd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from p2p.admission.places import Places, quarters
from p2p.admission.sources import UNKNOWN, claimed_subnet
from p2p.admission.standing import Judge, Standing
from p2p.errors import InvalidRecord
from p2p.messages.validity import Validity
from p2p.records.record import NodeRecord, SignedRecord, open_record

MAX_TTL = 600.0  # seconds between issue and expiry
CLOCK_SKEW = 60.0  # seconds that another node's clock may be ahead or behind
MAX_RECORDS = 4096


@dataclass(frozen=True, slots=True)
class RecordVerdict:
    """What the table says of a record: `record` only where it was accepted, else a `reason`.

    `signed` is the record wherever it is valid by itself, and `ahead` how many seconds its author's
    clock is ahead of ours where that is why it was ignored.
    """

    validity: Validity
    reason: str = ""
    record: NodeRecord | None = None
    signed: SignedRecord | None = None
    ahead: float = 0.0


class RecordTable:
    """The newest valid record of each peer.

    Args:
        own_peer_id: records under this id come from `put_own` only.
        network: name of the network, part of every signature.
        max_records: how many are kept.
        judge: how a peer stands.
        seen_at: the subnet that a peer is connected from, `UNKNOWN` when it is not.
    """

    def __init__(
        self,
        own_peer_id: str,
        network: str,
        max_records: int = MAX_RECORDS,
        *,
        judge: Judge = lambda peer_id: Standing.STRANGER,
        seen_at: Callable[[str], str] = lambda peer_id: UNKNOWN,
    ) -> None:
        self.own_peer_id = own_peer_id
        self._network = network
        self._places: Places[str] = Places(quarters(max_records), judge)
        self._seen_at = seen_at
        self._records: dict[str, SignedRecord] = {}
        self.version = 0
        """Counts changes of content."""

    def accept(self, wire: bytes, now: float) -> RecordVerdict:
        """Judge a record from a peer at `now` (unix seconds) and keep it if accepted."""
        try:
            signed = open_record(wire, self._network)
        except InvalidRecord as exc:
            return RecordVerdict(Validity.REJECT, str(exc))
        verdict = self._judge(signed.record, now)
        if verdict.validity is Validity.ACCEPT:
            self._keep(signed)
        elif verdict.validity is Validity.REJECT:
            return verdict
        return replace(verdict, signed=signed)

    def _keep(self, signed: SignedRecord) -> None:
        record = signed.record
        source = (self._seen_at(record.peer_id), claimed_subnet(record.addresses))
        leaves = self._places.enter(record.peer_id, source)
        if leaves is not None:
            self._drop(leaves)
        self._put(signed)

    def _put(self, signed: SignedRecord) -> None:
        self._records[signed.record.peer_id] = signed
        self.version += 1

    def _drop(self, peer_id: str) -> None:
        self._places.leave(peer_id)
        del self._records[peer_id]

    def _judge(self, record: NodeRecord, now: float) -> RecordVerdict:
        ttl = record.expires_at - record.issued_at
        if not 0 < ttl <= MAX_TTL:
            return RecordVerdict(Validity.REJECT, f"lifetime of {ttl:g} s is out of bounds")
        if record.peer_id == self.own_peer_id:
            return RecordVerdict(Validity.IGNORE, "our own record")
        known = self._records.get(record.peer_id)
        if known is not None and record.sequence <= known.record.sequence:
            return RecordVerdict(Validity.IGNORE, "not newer than the known record")
        ahead = record.issued_at - now
        if record.expires_at + CLOCK_SKEW < now:
            return RecordVerdict(Validity.IGNORE, "expired", ahead=ahead)
        if record.issued_at > now + CLOCK_SKEW:
            return RecordVerdict(Validity.IGNORE, "issued in the future", ahead=ahead)
        return RecordVerdict(Validity.ACCEPT, record=record)

    def put_own(self, signed: SignedRecord) -> None:
        """Keep our own record, so that snapshots hand it on."""
        self._put(signed)

    def get(self, peer_id: str, now: float) -> NodeRecord | None:
        """The peer's record, unless it has expired."""
        signed = self._records.get(peer_id)
        if signed is None or signed.record.expires_at <= now:
            return None
        return signed.record

    def wire(self, peer_id: str) -> bytes | None:
        """The peer's record as it came; None where there is none."""
        signed = self._records.get(peer_id)
        return None if signed is None else signed.wire

    def all(self, now: float) -> tuple[NodeRecord, ...]:
        """All records alive at `now`, our own included, ordered by peer id."""
        return tuple(signed.record for signed in self._alive(now))

    def page(self, after: str, now: float, max_bytes: int) -> tuple[list[bytes], str]:
        """Wire records with peer ids above `after`, up to `max_bytes`, for a snapshot.

        Returns:
            the records and the peer id to continue after, empty when this was the last page.
        """
        page: list[bytes] = []
        size = 0
        last = after
        for signed in self._alive(now):
            if signed.record.peer_id <= after:
                continue
            if page and size + len(signed.wire) > max_bytes:
                return page, last
            page.append(signed.wire)
            size += len(signed.wire)
            last = signed.record.peer_id
        return page, ""

    def expire(self, now: float) -> int:
        """Drop what expired (after the clock-skew allowance); returns how many went."""
        gone = [p for p, s in self._records.items() if s.record.expires_at + CLOCK_SKEW < now]
        for peer_id in gone:
            self._drop(peer_id)
        if gone:
            self.version += 1
        return len(gone)

    def __len__(self) -> int:
        return len(self._records)

    def _alive(self, now: float) -> Iterator[SignedRecord]:
        for peer_id in sorted(self._records):
            if self._records[peer_id].record.expires_at > now:
                yield self._records[peer_id]
