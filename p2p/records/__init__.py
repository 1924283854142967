"""Node records: what a node says about itself, who is believed, and how they spread."""
