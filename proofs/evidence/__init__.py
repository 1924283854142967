"""What a ring says about its work: the statements of its stages, and the bundle of one unit."""
