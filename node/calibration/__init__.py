"""Measuring honest noise on this machine, for `prime-node calibrate`."""
