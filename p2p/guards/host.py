"""Guarded host: no stream handler can take the node down.

In the stock host an exception in any inbound stream handler climbs through the connection's task
group into the service that runs the whole swarm, and the node leaves the network: one malformed
message from anybody is enough. Here each inbound stream is a fault boundary. What escapes a handler
resets that stream, is counted, and is reported so that the peer can be held to account.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
from libp2p.abc import INetStream
from libp2p.crypto.keys import KeyPair
from libp2p.host.basic_host import BasicHost
from multiaddr import Multiaddr

from p2p.guards.swarm import GuardedSwarm
from p2p.guards.upgrader import NEGOTIATE_TIMEOUT

log = structlog.get_logger(__name__)


class GuardedHost(BasicHost):
    """libp2p's host on a `GuardedSwarm`.

    Args:
        key_pair: the node's identity.
        admits: whether a peer id may be connected.
        on_fault: called with (peer id, protocol, error) when a stream handler failed.
        announce: addresses to advertise instead of the listening ones; empty for the latter.
    """

    def __init__(
        self,
        key_pair: KeyPair,
        *,
        admits: Callable[[str], bool],
        on_fault: Callable[[str, str, Exception], None],
        announce: tuple[Multiaddr, ...] = (),
    ) -> None:
        self._on_fault = on_fault
        super().__init__(
            GuardedSwarm(key_pair, admits),
            negotiate_timeout=NEGOTIATE_TIMEOUT,
            announce_addrs=list(announce) or None,
            disable_identify_address_discovery=True,
        )

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        try:
            await super()._swarm_stream_handler(net_stream)
        except Exception as exc:  # noqa: BLE001
            # The boundary: handlers of the library raise any type for hostile bytes (protobuf,
            # multihash, base58, key errors), so no narrower list would be complete.
            protocol = str(net_stream.get_protocol() or "")
            self._on_fault(str(net_stream.muxed_conn.peer_id), protocol, exc)
            await net_stream.reset()
