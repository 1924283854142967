"""The contracts of one network: their addresses, how they are created, checked and read."""
