"""Opening an orchestrator: its model, its pool on chain, its planner."""
