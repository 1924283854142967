"""Who gets scarce places and what a peer may cost: decisions without I/O, time as an argument."""
