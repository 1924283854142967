"""The validator: from bundles to signed verdicts (`judging`) and to paid work (`settlement`)."""
