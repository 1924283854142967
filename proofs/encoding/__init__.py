"""How everything signed or hashed is written: canonical bytes, EIP-712, Merkle trees."""
