"""Spreads node records: gossip for news, request/response for newcomers.

* Our own record is published on the topic ``records`` when it changes, a few times soon after
  (gossip may be lost while meshes form) and every `REFRESH` seconds, each time signed anew with a
  higher sequence number, since a node forwards nothing that it has seen before.
* With each new connection either side asks ``/prime/records/1`` for the other's table, page by
  page; the question carries the asker's own record, so one answered question introduces both.
  A peer that does not speak the protocol belongs to another network and is disconnected.
* Whoever is asked begins with the record that it had of the asker, where that is another one than
  the question carries, and one peer is asked with each refresh. It is a record that the asker did
  not make, if another node runs with its key (`p2p.records.own`).
* A record that comes straight from its author tells how its clock differs (`p2p.records.clocks`).

Request: msgpack ``[own wire record or b"", after peer id]``. Response: msgpack
``[[wire records], continue after]``, an empty continuation on the last page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, repeat

import msgpack
import structlog
import trio

from p2p.admission.standing import Judge, Standing
from p2p.errors import P2PError, PeerUnreachable, ProtocolViolation, Refused, RemoteRefused
from p2p.identity import MAX_PEER_ID_LENGTH
from p2p.messages.gossip import Gossip
from p2p.messages.validity import Validity
from p2p.records.clocks import Clocks, apart
from p2p.records.own import OwnRecords
from p2p.records.record import (
    MAX_RECORD_BYTES,
    NodeRecord,
    SignedRecord,
    sequence_at,
    sign_record,
)
from p2p.records.table import RecordTable, RecordVerdict

log = structlog.get_logger(__name__)

TOPIC = "records"
PROTOCOL = "/prime/records/1"
REFRESH = 20.0
SETTLING = (1.0, 4.0)  # pauses after a change: a young mesh may lose the first messages
TTL = 90.0
PAGE_BYTES = 32 * 1024  # with a question it is within what the budgets keep for each peer
MAX_PAGE = PAGE_BYTES + 2 * MAX_RECORD_BYTES
MAX_REQUEST = MAX_RECORD_BYTES + 256
MAX_PAGES = 256
TIMEOUT = 10.0
BEHIND_ALL = "\x7f"
"""After this peer id there is no other."""

Request = Callable[[str, str, bytes, float, int], Awaitable[bytes]]


class RecordView:
    """What the application sees of the record table.

    Args:
        clock: unix seconds.
    """

    def __init__(self, table: RecordTable, clock: Callable[[], float]) -> None:
        self._table = table
        self._clock = clock
        self._changed = trio.Event()

    def get(self, peer_id: str, now: float | None = None) -> NodeRecord | None:
        """The peer's record, unless unknown or expired."""
        return self._table.get(peer_id, self._clock() if now is None else now)

    def all(self, now: float | None = None) -> tuple[NodeRecord, ...]:
        """All records alive, our own included, ordered by peer id."""
        return self._table.all(self._clock() if now is None else now)

    @property
    def version(self) -> int:
        """Counts changes; equal versions mean equal content."""
        return self._table.version

    async def wait_changed(self, since: int | None = None) -> int:
        """Wait until the version differs from `since` (default: the current one)."""
        seen = self._table.version if since is None else since
        while self._table.version == seen:
            await self._changed.wait()
        return self._table.version

    def notify(self) -> None:
        """Wake the waiters; called by the exchange after each change."""
        self._changed.set()
        self._changed = trio.Event()


class RecordExchange:
    """Keeps the table current. `run` publishes and expires; `greet` syncs with one peer."""

    def __init__(
        self,
        table: RecordTable,
        gossip: Gossip,
        request: Request,
        *,
        private_key: bytes,
        network: str,
        clock: Callable[[], float],
        on_record: Callable[[NodeRecord], None],
        judge: Judge = lambda peer_id: Standing.STRANGER,
        connected: Callable[[], Sequence[str]] = lambda: (),
    ) -> None:
        self._connected = connected
        self._clocks = Clocks(judge)
        self._own_records = OwnRecords()
        self._asked = 0
        self._table = table
        self._gossip = gossip
        self._request = request
        self._key = private_key
        self._network = network
        self._clock = clock
        self._on_record = on_record
        self._own: NodeRecord | None = None
        self._own_wire = b""
        self._sequence = 0
        self._changed_own = trio.Event()
        self.view = RecordView(table, clock)

    def set_own(self, record: NodeRecord) -> SignedRecord:
        """Take a new statement about ourselves; it is signed now and published soon.

        Raises:
            InvalidRecord: it names another peer or is too large.
        """
        signed = self._sign(record)
        self._own = record
        self._changed_own.set()
        return signed

    def _sign(self, record: NodeRecord) -> SignedRecord:
        now = self._clock()
        self._sequence = max(self._sequence + 1, sequence_at(now))
        fresh = record.model_copy(
            update={"sequence": self._sequence, "issued_at": now, "expires_at": now + TTL}
        )
        signed = sign_record(fresh, self._key, self._network)
        self._table.put_own(signed)
        self._own_records.made(signed)
        self._own_wire = signed.wire
        self.view.notify()
        return signed

    async def run(self) -> None:
        """Publish our record on change, soon after, and every `REFRESH` s; drop expired ones."""
        while True:
            await self._publish_until_changed()
            self._changed_own = trio.Event()

    async def _publish_until_changed(self) -> None:
        for pause in chain(SETTLING, repeat(REFRESH)):
            if self._own_wire:
                await self._gossip.publish(TOPIC, self._own_wire)
            with trio.move_on_after(pause):
                await self._changed_own.wait()
                return
            if self._own is not None:
                self._sign(self._own)
                await self._look_for_another()
            if self._table.expire(self._clock()):
                self.view.notify()

    # -- gossip ---------------------------------------------------------------------------------

    def validate(self, author: str, wire: bytes) -> Validity:
        """The topic's validator: accepted records enter the table right here."""
        return self._take(wire, author).validity

    async def received(self, author: str, wire: bytes) -> None:
        """Accepted messages need nothing more."""

    def _take(self, wire: bytes, teller: str) -> RecordVerdict:
        now = self._clock()
        verdict = self._table.accept(wire, now)
        if verdict.record is not None:
            self._on_record(verdict.record)
            self.view.notify()
        if verdict.signed is not None:
            self._learn(verdict.signed, verdict, teller, now)
        return verdict

    def _learn(self, signed: SignedRecord, verdict: RecordVerdict, teller: str, now: float) -> None:
        """What a valid record says beyond what the table keeps of it."""
        author = signed.record.peer_id
        if author == self._table.own_peer_id:
            if self._own_records.seen(signed, now):
                log.error("identity in use elsewhere", reason=self._own_records.trouble(now))
        elif author != teller or not (verdict.record is not None or verdict.ahead):
            return
        elif self._clocks.heard(author, verdict.ahead):
            log.warning(
                "clocks differ",
                peer=author,
                its_clock=f"{apart(verdict.ahead)} ours",
                fix="neither sees the other; set whichever is wrong: timedatectl set-ntp true",
            )

    def troubles(self) -> tuple[str, ...]:
        """Why others do not see this node as it is, in words; none where all is well."""
        found = self._clocks.trouble(self._connected()), self._own_records.trouble(self._clock())
        return tuple(filter(None, found))

    async def _look_for_another(self) -> None:
        """Ask one peer, another one each time, what it knew of us."""
        peers = self._connected()
        if not peers:
            return
        self._asked += 1
        peer_id = peers[self._asked % len(peers)]
        question = msgpack.packb([self._own_wire, BEHIND_ALL])
        try:
            answer = await self._request(peer_id, PROTOCOL, question, TIMEOUT, MAX_PAGE)
            for wire in _parse_page(answer)[0][:1]:
                self._take(wire, peer_id)
        except P2PError as exc:
            log.debug("no answer about our own record", peer=peer_id, reason=str(exc))

    # -- snapshot -------------------------------------------------------------------------------

    async def greet(self, peer_id: str) -> bool:
        """Fetch the peer's table; False when the peer is of another network.

        Raises:
            ProtocolViolation: its answer breaks the protocol.
            PeerUnreachable, RequestTimeout: it went away or does not answer.
        """
        after = ""
        for _ in range(MAX_PAGES):
            question = msgpack.packb([self._own_wire, after])
            try:
                answer = await self._request(peer_id, PROTOCOL, question, TIMEOUT, MAX_PAGE)
            except RemoteRefused as refusal:
                if refusal.code == "unsupported_protocol":
                    return False
                raise PeerUnreachable(f"{peer_id} refuses its records: {refusal}") from refusal
            records, following = _parse_page(answer)
            for wire in records:
                if self._take(wire, peer_id).validity is Validity.REJECT:
                    raise ProtocolViolation("the snapshot holds an invalid record")
            if not following:
                return True
            if following <= after:
                raise ProtocolViolation("the snapshot's pages do not advance")
            after = following
            await trio.lowlevel.checkpoint()
        return True

    async def serve(self, peer_id: str, request: bytes) -> bytes:
        """Answer ``/prime/records/1``."""
        try:
            wire, after = _parse_question(request)
        except ProtocolViolation as exc:
            raise Refused("malformed", str(exc)) from exc
        before = self._table.wire(peer_id)
        if wire and self._take(wire, peer_id).validity is Validity.REJECT:
            raise Refused("invalid_record", "the record in the request is invalid")
        page, following = self._table.page(after, self._clock(), PAGE_BYTES)
        if wire and before is not None and before not in (wire, *page[:1]):
            page = [before, *page]
        return bytes(msgpack.packb([page, following]))


def _parse_page(data: bytes) -> tuple[list[bytes], str]:
    match _unpack(data):
        case [list(wires), str(after)] if len(after) <= MAX_PEER_ID_LENGTH:
            if all(isinstance(wire, bytes) for wire in wires):
                return wires, after
    raise ProtocolViolation("a page of records is [[bytes], continuation]")


def _parse_question(data: bytes) -> tuple[bytes, str]:
    match _unpack(data):
        case [bytes(wire), str(after)] if len(after) <= MAX_PEER_ID_LENGTH:
            return wire, after
    raise ProtocolViolation("a records request is [own record, peer id]")


def _unpack(data: bytes) -> object:
    try:
        return msgpack.unpackb(data, max_ext_len=0, max_map_len=0)
    except (ValueError, msgpack.UnpackException) as exc:
        raise ProtocolViolation("the records message is no valid msgpack") from exc
