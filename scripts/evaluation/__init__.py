"""How well cheating is told from honest work: collecting records, judging them, reporting."""
