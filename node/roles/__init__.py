"""What a node can be: worker, validator, orchestrator, and how they are put together."""
