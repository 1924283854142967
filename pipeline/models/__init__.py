"""Models on disk: where they come from, what identifies them, and the slices a stage loads."""
