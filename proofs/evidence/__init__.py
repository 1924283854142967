"""What a ring says of its work: statements of its stages, and the bundle of one unit."""
