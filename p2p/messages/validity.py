"""What a topic's validator says about a gossip message, and so what becomes of it.

The words are those of the Ethereum consensus layer's gossip rules; `p2p.messages.gossip` acts on
them, and whoever validates a topic (`p2p.records.table` for records) chooses among them.
"""

from __future__ import annotations

from enum import Enum


class Validity(Enum):
    """Deliver and forward a message, drop it without blame, or drop it and charge its forwarder."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"
