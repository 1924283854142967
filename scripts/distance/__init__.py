"""A network of node processes, each in a network namespace of its own, over a wire with a delay."""
