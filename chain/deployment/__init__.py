"""Putting the contracts on a chain: parameters, presets, wiring, and checks."""
