"""From accepted work to posted roots, and the truth about everybody's roots."""
