"""A whole network of real node processes on this machine (`prime-node simulate`)."""

from node.simulation.runner import simulate

__all__ = ["simulate"]
