"""Bodies of the requests between nodes, by subject: work, verification, settlement."""
