"""From a checkpoint to a prepared model: where it comes from, what is in it, what is written."""
