"""From a prompts file to work units, and from finished units to rows of a dataset."""
