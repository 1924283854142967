"""Opening a byte stream to a peer, connecting to it first if need be.

A connection can go away between connecting and opening: of two simultaneous dials one is closed by
the rule that both sides apply (`p2p.guards.swarm`). So a stream that fails for the connection's
sake is tried once more, and the library's many ways to say so become `PeerUnreachable`.
"""

from __future__ import annotations

import trio
from libp2p.host.exceptions import StreamFailure
from libp2p.io.exceptions import IOException
from libp2p.network.exceptions import SwarmException
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.stream_muxer.exceptions import MuxedConnError, MuxedStreamError

from p2p.config import wire_protocol
from p2p.errors import PeerUnreachable, RemoteRefused
from p2p.guards.host import GuardedHost
from p2p.messages.streams import Stream
from p2p.peering.addresses import peer_id_object
from p2p.peering.peers import Peers


class StreamOpener:
    """Opens streams of one network; `network` is its name on the wire."""

    def __init__(self, host: GuardedHost, peers: Peers, network: str) -> None:
        self._host = host
        self._peers = peers
        self._network = network

    async def open(self, peer_id: str, protocol: str, timeout: float) -> Stream:
        """A stream of ``/prime/<name>/<version>`` to the peer.

        Raises:
            PeerUnreachable, PeerBanned: no connection within `timeout` seconds.
            RemoteRefused: with code ``unsupported_protocol``.
        """
        wire = wire_protocol(protocol, self._network)
        last: Exception | None = None
        for _ in range(2):  # a simultaneous dial may close the first connection under us
            await self._peers.connect_peer(peer_id, timeout)
            try:
                with trio.fail_after(timeout):
                    raw = await self._host.new_stream(peer_id_object(peer_id), [wire])
                return Stream(raw, peer_id)
            except StreamFailure as exc:
                if _says_unsupported(exc):
                    raise RemoteRefused(
                        "unsupported_protocol", f"{peer_id} does not serve {protocol}"
                    ) from exc
                last = exc
            except trio.TooSlowError as exc:
                raise PeerUnreachable(f"{peer_id} opened no stream in {timeout:g} s") from exc
            except (SwarmException, IOException, MuxedConnError, MuxedStreamError) as exc:
                last = exc
        raise PeerUnreachable(f"no stream to {peer_id}: {last}") from last


def _says_unsupported(failure: StreamFailure) -> bool:
    cause = failure.__cause__
    return isinstance(cause, MultiselectClientError) and "not supported" in str(cause).lower()
