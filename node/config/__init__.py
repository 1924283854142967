"""What a node is told and what it keeps: settings, data folder, keys, its device."""
