"""This node's record: what it says of itself to the network."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chain.endpoint.environment import is_loopback
from node.context import NodeContext
from node.version import version
from p2p.records.record import NodeRecord

if TYPE_CHECKING:
    from node.roles.assembly import Roles

MAX_MODELS = 64


def make_record(context: NodeContext, roles: Roles, http: str) -> NodeRecord:
    """The statement to publish; the network adapter signs it and sets its times and number.

    The HTTP address is told to others only where it is on loopback, which means: to a simulation's
    nodes on this machine. A public address would invite strangers to a port meant for the owner.
    """
    worker = roles.worker
    return NodeRecord(
        peer_id=context.peer_id,
        sequence=0,
        issued_at=0.0,
        expires_at=0.0,
        addresses=context.network.addresses,
        roles=tuple(context.config.roles),
        pools=(str(roles.pool_id),) if roles.pool_id else (),
        agent=f"prime-node/{version()}",
        device=worker.device.name if worker else "",
        vram_bytes=worker.device.memory_bytes if worker else 0,
        layer_seconds=worker.layer_seconds if worker else 0.0,
        models=worker.models[:MAX_MODELS] if worker else (),
        location=context.config.location,
        region=context.config.region,
        provider=context.provider if worker else "",
        http=http if is_loopback(urlsplit(http).hostname or "") else "",
    )
