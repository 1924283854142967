"""From accepted work to posted roots, and audits of everybody's roots."""
