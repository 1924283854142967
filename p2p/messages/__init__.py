"""Bytes between two peers and among many: streams, framing, request/response, gossip."""
