"""What the node keeps on its disk: whether there is room for more, and what goes when."""
