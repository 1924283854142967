"""How everything signed or hashed is written: canonical bytes, EIP-712, Merkle trees.

The structs that the contracts check (receipts, roots, leaves) are here and not in
`proofs.settlement`, because this is the one part of `proofs` that `chain` imports.
"""
