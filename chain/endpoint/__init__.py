"""Talking to an Ethereum endpoint over JSON-RPC: transport, records, hexadecimal, faucet."""
