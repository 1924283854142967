"""What an epoch pays: from accepted receipts to a root, and whether a posted root is right."""
