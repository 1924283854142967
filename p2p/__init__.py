"""Peer-to-peer networking: the only importer of libp2p.

Start at `p2p.network`. Rooms, each of which imports only those below it:

    network    the facade, where the parts meet
    peering    who is connected and who should be: addresses, DHT, scores, dialling
    records    what nodes say about themselves, and how it spreads
    messages   bytes between two peers and among many: streams, request/response, gossip
    guards     everything that works around the library
    admission  who gets scarce places, and what a peer may cost; pure

Outside this package, import `p2p.network`, `p2p.identity`, `p2p.errors`, `p2p.records.record`,
`p2p.peering.events`, `p2p.messages.serving.ServiceTiming`, `p2p.messages.streams`, `p2p.parts` and
`p2p.admission`; the rest is its own business.
"""
