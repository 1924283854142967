"""Connection upgrade: Noise and the guarded Yamux, nothing else.

py-libp2p names its own Yamux class in the muxer negotiation, whatever muxers it was given, and by
default also offers TLS, SecIO and *plaintext*. Here the offer is exactly one of each.

It also admits identities of every key type. A peer of this network is its secp256k1 key, and all
code above relies on that form, so the others are refused as soon as the handshake has shown them.
"""

from __future__ import annotations

from collections import OrderedDict

from libp2p.abc import IMuxedConn, IRawConnection, ISecureConn
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.transport.exceptions import SecurityUpgradeFailure
from libp2p.transport.upgrader import TransportUpgrader

from p2p.guards.yamux import GuardedYamux
from p2p.guards.yamux_frames import PROTOCOL_ID as YAMUX_PROTOCOL_ID
from p2p.identity import is_peer_id

NEGOTIATE_TIMEOUT = 10  # seconds for one multistream-select round


class GuardedMuxer(MuxerMultistream):
    """Negotiates ``/yamux/1.0.0`` and answers with a `GuardedYamux`."""

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """Agree on Yamux over an authenticated connection. Raises MuxedConnError or a subclass of
        MultiselectError where the peer offers something else."""
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        muxed = GuardedYamux(conn, peer_id, is_initiator=conn.is_initiator)
        return self._annotate_connection(muxed, conn, protocol)


class GuardedUpgrader(TransportUpgrader):
    """The library's upgrader, for secp256k1 identities only."""

    async def upgrade_security(
        self, raw_conn: IRawConnection, is_initiator: bool, peer_id: ID | None = None
    ) -> ISecureConn:
        """Authenticate the other side. Raises `SecurityUpgradeFailure` where that fails or its
        identity is no secp256k1 key."""
        secured: ISecureConn = await super().upgrade_security(raw_conn, is_initiator, peer_id)
        remote = secured.get_remote_peer()
        if not is_peer_id(str(remote)):
            await secured.close()
            raise SecurityUpgradeFailure(f"{remote} is no secp256k1 identity")
        return secured


def guarded_upgrader(key_pair: KeyPair) -> TransportUpgrader:
    """An upgrader that authenticates with `key_pair` (the node's identity)."""
    noise = NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)
    muxers = OrderedDict(((YAMUX_PROTOCOL_ID, GuardedYamux),))
    upgrader = GuardedUpgrader(
        secure_transports_by_protocol={NOISE_PROTOCOL_ID: noise},
        muxer_transports_by_protocol=muxers,
    )
    upgrader.muxer_multistream = GuardedMuxer(muxers, NEGOTIATE_TIMEOUT)
    return upgrader
