"""The journal's jobs and units: a row each, which is written again as it comes along."""
