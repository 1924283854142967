"""Contract events in order, each delivered at least once, across restarts and forks."""
