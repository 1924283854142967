"""What the control process and the engine process say to one another, on both sides."""
