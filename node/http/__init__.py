"""The node's HTTP API: health, metrics, what the node sees, and jobs."""
