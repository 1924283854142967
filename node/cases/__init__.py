"""Cases: a verdict with all that it rests on, written to a file and checked again from it."""
