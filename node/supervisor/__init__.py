"""Keeping a node alive through surprises: each background task is a named part, restarted."""
