"""Commands that set up a node, run it, look at it and give it work."""
