"""Peer-to-peer networking: the only importer of libp2p.

Start at `p2p.network`. Outside this package, import `p2p.network`, `p2p.records.record`,
`p2p.identity`, `p2p.peering.events`, `p2p.messages.streams`, `p2p.records.table.Validity` and
`p2p.errors`; the rest is its own business. `p2p.guards` holds everything that works around the
library.
"""
