"""Running a model slice over many sequences with a key-value cache."""
