"""What stage 0 decides: which tokens go into which batch, how many are in flight, who has memory.

Pure: time comes in with the events, and what the ring costs is known from what its batches report.
"""
