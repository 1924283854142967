"""`prime-node chain`: a development chain, and the contracts on any chain."""
