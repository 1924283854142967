"""The engine: a process with threads that loads a slice, runs its stage of a ring, and replays."""
