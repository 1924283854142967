"""What the operator's `[policy]` lets a worker do. Time and chain facts are arguments."""
