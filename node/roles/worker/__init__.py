"""The worker: holds a stage of a ring, proves what it did, and is paid for it."""
