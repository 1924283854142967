"""What every role of a node is given. Made once by `node.runtime`, never changed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from node.config.schema import NodeConfig
from node.metrics import NodeMetrics
from node.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from pathlib import Path

    from node.journal import AsyncJournal
    from p2p.network import Network
    from proofs.encoding.eip712 import Domain


@dataclass(frozen=True)
class NodeContext:
    """`key` is the node's hot key, `address` its EVM address, `peer_id` its libp2p identity.

    Receipts are signed under `receipt_domain`, which without a chain is that of no contract. The
    chain itself is not here: parts that need it are given a client of their own, and exist only
    where there is one.
    """

    config: NodeConfig
    network_name: str
    key: bytes
    peer_id: str
    address: str
    provider: str
    network: Network
    journal: AsyncJournal
    receipt_domain: Domain
    metrics: NodeMetrics
    engine_dir: Path
    blobs: Path
    log: Any
    supervisor: Supervisor = field(default_factory=Supervisor)

    def __repr__(self) -> str:
        return f"NodeContext({self.peer_id})"

    def now(self) -> float:
        """Seconds that never go back; for deadlines and the pure machines."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970; for records, invites and receipts."""
        return time.time()
