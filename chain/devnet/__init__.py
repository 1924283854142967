"""The development chain: a real EVM behind a loopback JSON-RPC server, with a faucet."""
