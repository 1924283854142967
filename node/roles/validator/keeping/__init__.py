"""What a validator keeps on disk of what it judged, how much of it, and for how long."""
