"""What all commands share: options, output, questions, progress, a client of a node's API."""
