"""What stage 0 tells its orchestrator: tokens, ends and trouble."""
