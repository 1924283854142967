"""What an event changes in the tables: of workers and groups, of work, and of verdicts."""
