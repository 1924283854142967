"""The chain as a node uses it: joining, deploying, the receipt domain, blocks as chance."""
