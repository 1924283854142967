"""What was settled, as every role sees it: the chain's events, histories, rewards."""
