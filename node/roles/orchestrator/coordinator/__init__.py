"""The orchestrator's decisions, pure: tables, events, and the commands that follow."""
