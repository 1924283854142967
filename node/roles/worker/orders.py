"""Whether this worker can be paid for what an order has it load.

A worker's receipts name the pool, its neighbours' addresses and its count of layers as the order
told it. An orchestrator that lies about any of them would get the work for receipts that nobody
honours, so the order is checked against the pool that was joined and the peers' own keys.
"""

from __future__ import annotations

from itertools import pairwise

from node.roles.worker.membership import JoinedPool
from node.wire.messages.work import LoadStage
from node.wire.peer_addresses import address_of_peer
from p2p.errors import Refused


def check_order(order: LoadStage, pool: JoinedPool, own_peer_id: str) -> None:
    """Raise `Refused` for an order that does not fit the pool, the ring or the peers' keys."""
    stages = order.stages
    if (order.pool_id, order.model_id) != (pool.pool_id, pool.model_id):
        raise Refused("bad_request", "that is not the pool and model I was invited for")
    if order.ref.stage >= len(stages) or stages[order.ref.stage].peer_id != own_peer_id:
        raise Refused("bad_request", "that stage is not mine")
    if len({stage.peer_id for stage in stages}) != len(stages):
        raise Refused("bad_request", "a peer is in the ring twice")
    cuts = [0, *(stage.last_layer for stage in stages)]
    firsts = [stage.first_layer for stage in stages]
    if firsts != cuts[:-1] or any(last <= first for first, last in pairwise(cuts)):
        raise Refused("bad_request", "the stages' layers do not follow one another from 0")
    for index, stage in enumerate(stages):
        if stage.address != address_of_peer(stage.peer_id):
            raise Refused("bad_request", f"stage {index}: the address is not its key's")
