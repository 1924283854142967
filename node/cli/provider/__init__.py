"""Commands that move a provider's money: wallet, stake, nodes, rewards."""
