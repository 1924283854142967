"""A model cut into stages: its slices, one step of each, engines, the data plane, and plans."""
